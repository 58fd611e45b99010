"""Which device, which precision, how many processes: decided once, written to the log."""

from __future__ import annotations

import copy
import ctypes
import logging
import os
import platform
import random
import resource
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn

from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")

KEPT_BYTES = 2**26  # larger tensors take so long to compute that their pages do not matter
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def start(precision: str = "float32", device: str = "auto") -> Fabric:
    """A launched Fabric on the chosen device; several processes if a launcher started several.

    Args:
        precision: `float32`, `bf16` or `auto` (see `pick_precision`).
        device: `auto` (a GPU if torch sees one, otherwise the CPU), `cpu` or `cuda`.

    Under `python -m torch.distributed.run` each process takes its share (gloo on CPUs, nccl on
    GPUs). Otherwise one process works alone, whatever a cluster's environment variables say.
    """
    accelerator = pick_device(device)
    chosen, why = pick_precision(precision, accelerator)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
        backend = "nccl" if accelerator == "cuda" else "gloo"
        layout = {
            "strategy": DDPStrategy(process_group_backend=backend),
            "devices": local,
            "num_nodes": world // local,
            "plugins": [TorchElasticEnvironment()],
        }
    else:  # a named environment: Fabric would otherwise read a cluster's task counts
        layout = {"devices": 1, "plugins": [LightningEnvironment()]}
    _be_deterministic(accelerator)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    fabric = Fabric(accelerator=accelerator, precision=chosen, **layout)
    fabric.launch()
    if fabric.global_rank == 0:
        log.info("%s; precision %s (%s); %d process(es)", describe(accelerator), chosen, why, world)
    return fabric


def processes(gpus: int) -> int:
    """Processes to train with when `gpus` were asked for: one per visible GPU, at least one."""
    visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus > visible:
        log.warning(
            "%d GPUs were asked for, torch (%s) sees %d; using %s",
            *(gpus, torch.__version__, visible, f"{visible} of them" if visible else "the CPU"),
        )
    return max(1, min(gpus, visible))


def pick_device(device: str) -> str:
    """`cpu` or `cuda`.

    Raises:
        InputError: a GPU was asked for and torch sees none, or the name is unknown.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise InputError("device", f"{device!r} is unknown; use auto, cpu or cuda")
    seen = torch.cuda.is_available()
    if device == "cuda" and not seen:
        raise InputError(
            "device",
            f"cuda was asked for, but torch {torch.__version__} sees no GPU"
            f" (CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')});"
            " install a CUDA build of torch (conda on a machine without a GPU: set"
            " CONDA_OVERRIDE_CUDA when the environment is made) or use device cpu",
        )
    if (
        device == "auto"
        and not seen
        and os.environ.get("CUDA_VISIBLE_DEVICES", "") not in ("", "-1")
    ):
        log.warning("a GPU was assigned to this job, but torch sees none: training on the CPU")
    return "cuda" if seen and device != "cpu" else "cpu"


def pick_precision(name: str, accelerator: str) -> tuple[str, str]:
    """Fabric's name of the precision, and why.

    `bf16` computes in bfloat16 with float32 weights where the hardware can, otherwise in float32.
    `auto` takes bf16 on a GPU that has it and float32 on a CPU.

    Raises:
        InputError: unknown name.
    """
    if name not in ("float32", "bf16", "auto"):
        raise InputError("precision", f"{name!r} is unknown; use float32, bf16 or auto")
    if name == "float32" or (name == "auto" and accelerator == "cpu"):
        return "32-true", "as set" if name == "float32" else "auto on a CPU"
    if accelerator == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if able:
        return "bf16-mixed", "as set" if name == "bf16" else "auto on this GPU"
    log.warning("precision %s: this %s has no bfloat16, float32 is used", name, accelerator)
    return "32-true", "no bfloat16 here"


def _be_deterministic(accelerator: str) -> None:
    """Same numbers on the same device: fixed algorithms, and float32 that is float32."""
    if accelerator == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Nothing here reads a tensor that is not computed yet, so new ones need not be filled first.
    torch.utils.deterministic.fill_uninitialized_memory = False


def compiled(spec: Any, net: nn.Module, batch: Mapping[str, Tensor], device: torch.device) -> Any:
    """The network as `torch.compile` makes it, or as it is where that fails (the log says why).

    A copy is tried first, forward and backward: compilers fail late, and without one (no C++
    compiler on a node, an old GPU) training must go on.
    """
    trial = copy.deepcopy(net).to(device)
    places = {key: value.to(device) for key, value in batch.items()}
    began = time.monotonic()
    try:
        with torch.random.fork_rng():
            returned = torch.compile(trial)(*spec.given(places))
            spec.loss(returned, places).backward()
    except Exception as error:  # of many kinds: the compiler's, the driver's, the system's
        log.warning("not compiled, which costs speed only: %s", str(error).strip().split("\n")[0])
        return net
    log.info("compiled in %.0f s", time.monotonic() - began)
    return torch.compile(net)


def use_cores(threads: int | None) -> None:
    """Limit torch to the job's cores, None for no limit, and keep freed memory for what comes next.

    An unpinned job on a shared machine loses 2x and more. glibc hands large freed tensors back to
    the system, and to get them anew, page by page, can take longer than to compute them
    (docs/benchmarks.md); those of up to `KEPT_BYTES` are used again instead.
    """
    if threads:
        torch.set_num_threads(max(1, int(threads)))
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not on macOS
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 8 * KEPT_BYTES)


def seed_all(seed: int) -> None:
    """Start every random stream (python, numpy, torch, CUDA) from one number."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def describe(accelerator: str) -> str:
    """One line for the log: device, driver, torch build."""
    if accelerator == "cuda":
        place = torch.cuda.get_device_name()
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        what = f"{place}, {memory:.0f} GiB, CUDA {torch.version.cuda}"
    else:
        what = f"CPU {platform.machine()}, {torch.get_num_threads()} thread(s)"
    return f"{what}; torch {torch.__version__}"


def memory_meter(accelerator: str) -> Callable[[], float]:
    """A function that tells the peak memory so far, in MB (of the GPU, or of this process)."""
    if accelerator == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return lambda: torch.cuda.max_memory_allocated() / 2**20
    scale = 2**20 if platform.system() == "Darwin" else 2**10
    return lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
