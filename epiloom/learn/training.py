"""The training loop, the same for every model, on Lightning Fabric.

`fit` reads from top to bottom: begin or resume, then per epoch train, validate, schedule, keep the
best weights, save, decide whether to stop. Everything that decides a number is in view here; how a
state is written (checkpoint.py), a batch is fetched (loader.py) and a rate is cut (schedules.py)
is not.

The result is a function of (settings, examples) alone. A run that is killed and started again ends
with the same history and the same weights, bit for bit on a CPU.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from epiloom.learn import agreement, carrying, checkpoint, devices, loader, optimizers, starting
from epiloom.learn.checkpoint import Progress
from epiloom.learn.diagnosis import NotFinite, findings
from epiloom.learn.examples import Examples
from epiloom.learn.history import HISTORY, write_history
from epiloom.learn.interrupts import Preempted, Signals
from epiloom.learn.loader import Piece
from epiloom.learn.progress import RunLog
from epiloom.learn.schedules import Schedule
from epiloom.plan.errors import InputError

log = logging.getLogger("epiloom")


def fit(
    spec: Any,
    settings: Mapping[str, Any],
    train: Examples,
    valid: Examples,
    run_dir: str | Path,
    weights_out: str | Path,
    history_out: str | Path,
    device: str = "auto",
    progress: bool | None = None,
    save_minutes: float = 10.0,
    prefetch: int = 2,
    threads: int | None = None,
    start: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Train one model to the end, from wherever an earlier attempt got to.

    Args:
        spec: the model (`models.ModelSpec`).
        settings: the run's settings; a state in `run_dir` is continued only if it has the same.
        train, valid: examples to learn from, and to choose the best epoch by.
        run_dir: training state and logs; kept between attempts.
        weights_out: weights of the epoch that the settings' `keep` asks for: lowest validation loss
            (best), highest validation r (best_r), or the last; {"state_dict", "settings"}.
        history_out: table with one row per epoch (columns `HISTORY`).
        device: auto, cpu or cuda.
        progress: False = nothing on the terminal.
        save_minutes: the state is saved after every epoch, and this often within one.
        prefetch: batches fetched ahead by a thread; 0 = none. Does not change the result.
        threads: cores to use (default: leave torch's setting).
        start: weights to begin with (starting.begin); with the settings' `frozen` only the rows of
            the last map are trained, and the rest stays in evaluation mode.

    Returns:
        The history, one mapping per epoch.

    Raises:
        Preempted: SIGTERM or SIGUSR1 came; the state is saved.
        NotFinite: loss or gradient became NaN or infinite.
        InputError: the state in `run_dir` belongs to other settings.
    """
    devices.use_cores(threads)
    fabric = devices.start(settings["precision"], device)
    rank, world = fabric.global_rank, fabric.world_size
    batch, accumulate, seed = settings["batch"], settings["accumulate"], settings["seed"]
    group = batch * accumulate  # examples per update, over all processes
    manifest = _manifest(spec, settings, train, valid, start)
    folder = checkpoint.RunFolder(run_dir, manifest, rank == 0)
    fabric.barrier()  # the folder is ready for every process

    devices.seed_all(seed)
    net = spec.build(settings)
    frozen = bool(settings.get("frozen"))
    if start:
        starting.begin(spec, net, settings, start)
    if spec.prepare:  # of these examples, not of those that the weights of `start` come from
        spec.prepare(net, train)
    if frozen:
        starting.freeze(spec, net)
    adam = optimizers.made(net, settings["optimizer"])
    fast = net
    if settings.get("compile"):
        first = {
            k: torch.from_numpy(v) for k, v in train.batch(np.arange(min(2, len(train)))).items()
        }
        fast = devices.compiled(spec, net, first, fabric.device)
    model, optimizer = fabric.setup(fast, adam)
    updates = math.ceil(len(train) / group) * settings["epochs"]
    schedule = Schedule(settings["optimizer"]["learning_rate"], settings["schedule"], updates)
    if rank:  # dropout must differ between processes
        devices.seed_all(seed + rank)
    state = folder.load_state()
    p = state["progress"] if state else Progress()
    if state:
        _restore(state, net, adam, schedule, fabric, seed)
    moving = carrying.Moving(net) if spec.plain_loss and not p.update else None
    peak_memory = devices.memory_meter(fabric.device.type)

    def save() -> None:
        streams = _gather(fabric, checkpoint.random_states())
        carried = _gather(fabric, carrying.values(net))
        if rank == 0:
            parts = {"model": net.state_dict(), "optimizer": adam.state_dict()}
            parts |= {"random": streams, "carried": carried}
            folder.save_state(p, {**parts, "schedule": schedule.state()})
        fabric.barrier()

    def leave() -> None:
        save()
        note.event("interrupted", epoch=p.epoch + 1, position=p.position)
        raise Preempted()

    with Signals() as stop, RunLog(folder.folder, rank == 0, progress) as note:
        note.event("resumed" if state else "started", epoch=p.epoch + 1, position=p.position)
        while not p.finished:
            began = saved = time.monotonic()
            before = p.seconds  # spent in this epoch by earlier attempts
            note.epoch_began(p.epoch + 1, settings["epochs"], len(train), p.examples)
            visits = loader.visits(train, seed, p.epoch)
            plan = loader.updates(visits, batch, accumulate, rank, world, train)[p.position :]
            pieces = (piece for update in plan for piece in update)
            shown = loader.varied(train, seed, p.epoch)
            model.train(not frozen)
            with closing(loader.feed(shown, pieces, fabric.device, prefetch)) as batches:
                for update in plan:
                    rate = schedule.rate(p.update)
                    taken = list(itertools.islice(batches, len(update)))
                    seen = visits[p.position * group : (p.position + 1) * group]
                    counted = loader.counted(train, seen)
                    step = _update if counted else _warm_up
                    loss = step(fabric, spec, model, optimizer, taken, rate, settings, train, p)
                    p.loss_sum, p.counted = p.loss_sum + loss * counted, p.counted + counted
                    p.examples += len(seen)
                    p.position, p.update = p.position + 1, p.update + 1
                    p.seconds = before + time.monotonic() - began
                    note.advanced(p.examples, p.loss_sum / max(1, p.counted))
                    if moving:
                        moving.check(p.update)
                    due = time.monotonic() - saved >= 60 * save_minutes
                    asked, due = _any(fabric, stop.asked, due)
                    if asked:
                        leave()
                    if due:
                        save()
                        saved = time.monotonic()
            speed = p.examples / p.seconds

            found = _validate(fabric, spec, settings, model, valid, prefetch, stop)
            if found is None:
                leave()
            loss, r = found
            p.seconds = before + time.monotonic() - began
            best = p.improved_by(loss, r, settings["keep"])
            p.stale = 0 if best else p.stale + 1
            if best:
                p.best_loss, p.best_epoch = loss, p.epoch + 1
                p.best_r = -math.inf if math.isnan(r) else r
                if rank == 0:
                    folder.save_best(p.best_epoch, net.state_dict())
            row = (
                p.epoch + 1,
                p.update,
                p.loss_sum / max(1, p.counted),
                loss,
                r,
                schedule.rate(p.update - 1),
            )
            row = dict(zip(HISTORY, (*row, speed, p.seconds, peak_memory(), best), strict=True))
            p.history.append(row)
            schedule.epoch_ended(loss)
            p.next_epoch()
            patience = settings["stop_patience"]  # 0 = never stop early
            p.finished = p.epoch >= settings["epochs"] or 0 < patience <= p.stale
            save()
            note.epoch_ended(row)
            if not p.finished and _any(fabric, stop.asked)[0]:
                leave()
        if spec.plain_loss is not None and p.best_loss >= spec.plain_loss:
            log.warning(
                "the best validation loss, %.4g, is that of the mean or worse (%.4g)",
                *(p.best_loss, spec.plain_loss),
            )
        note.event("finished", epochs=p.epoch, best_epoch=p.best_epoch, best_loss=p.best_loss)
    if rank == 0:
        _write_outputs(folder, p, settings, weights_out, history_out)
    fabric.barrier()
    return p.history


def _update(
    fabric: Fabric,
    spec: Any,
    model: Any,
    optimizer: Any,
    batches: list[tuple[Piece, dict[str, Tensor]]],
    rate: float,
    settings: Mapping[str, Any],
    train: Examples,
    p: Progress,
) -> float:
    """One step of the optimiser; returns the mean loss over the update's examples.

    Processes average their gradients, so each weights its loss by its share times their number.

    Raises:
        NotFinite: before the weights are touched.
    """
    for parameters in optimizer.optimizer.param_groups:
        parameters["lr"] = rate
    optimizer.zero_grad()
    total = torch.zeros((), dtype=torch.float64, device=fabric.device)
    for k, (piece, batch) in enumerate(batches):
        with fabric.no_backward_sync(model, enabled=k < len(batches) - 1):
            loss = spec.loss(model(*spec.given(batch)), batch)
            fabric.backward(loss * (piece.weight * fabric.world_size))
        if piece.weight:
            total += loss.detach().double() * piece.weight
    if settings["clip_norm"] > 0:
        norm = fabric.clip_gradients(
            model, optimizer, max_norm=settings["clip_norm"], error_if_nonfinite=False
        )
    else:
        norm = torch.nn.utils.get_total_norm(
            [w.grad for w in model.parameters() if w.grad is not None]
        )
    # the gradient is already the same in all processes; the loss becomes so here
    value = float(fabric.all_reduce(total, reduce_op="sum") if fabric.world_size > 1 else total)
    if not (math.isfinite(value) and math.isfinite(float(norm))):
        what = (
            f"loss {value}, gradient norm {float(norm)} at learning rate {rate:g}; nothing updated"
        )
        seen = [(piece.indices, batch) for piece, batch in batches]
        raise NotFinite(
            f"training, step {p.update + 1} (epoch {p.epoch + 1})",
            [what, *findings(seen, train.names, model)],
        )
    optimizer.step()
    return value


def _warm_up(
    fabric: Fabric, spec: Any, model: Any, optimizer: Any, batches: list, *_: Any
) -> float:
    """Examples that only warm a state up: a step would follow nothing but old momentum."""
    with torch.no_grad():
        for _, batch in batches:
            model(*spec.given(batch))
    return 0.0


def _validate(
    fabric: Fabric,
    spec: Any,
    settings: Mapping[str, Any],
    model: Any,
    valid: Examples,
    prefetch: int,
    stop: Signals,
) -> tuple[float, float] | None:
    """Mean loss over all validation examples, and r (agreement.mean_r).

    Each example counts once whatever the number of processes. None if the run was asked to end
    meanwhile.
    """
    places, batch = np.arange(len(valid)), settings["batch"]
    plan = loader.updates(places, batch, 1, fabric.global_rank, fabric.world_size)
    total = torch.zeros((), dtype=torch.float64, device=fabric.device)
    moments: Tensor | None = None
    model.eval()
    pieces = (piece for (piece,) in plan)
    with torch.no_grad(), closing(loader.feed(valid, pieces, fabric.device, prefetch)) as batches:
        for piece, values in batches:
            returned = model(*spec.given(values))
            loss = spec.loss(returned, values)
            part = agreement.sums(spec, settings, returned, values)
            moments = torch.zeros_like(part) if moments is None else moments
            if piece.weight:  # 0 = a stand-in, counted by another process
                total += loss.double() * loader.counted(valid, piece.indices)
                moments += part
                if fabric.world_size == 1 and not bool(loss.isfinite()):
                    raise NotFinite("validation", findings([(piece.indices, values)], valid.names))
            if _any(fabric, stop.asked)[0]:
                return None
    if fabric.world_size > 1:
        total = fabric.all_reduce(total, reduce_op="sum")
        moments = fabric.all_reduce(moments, reduce_op="sum")
    loss = float(total) / max(1, loader.counted(valid, places))
    if not math.isfinite(loss):
        raise NotFinite("validation", f"the loss is {loss}; check the validation examples")
    return loss, agreement.mean_r(moments)


def _manifest(
    spec: Any,
    settings: Mapping[str, Any],
    train: Examples,
    valid: Examples,
    start: str | Path | None,
) -> dict:
    """What a state belongs to."""
    for part, examples in (("train", train), ("validation", valid)):
        if len(examples) == 0:
            raise InputError(part, "there is no example; check the fold's chromosomes")
    data = {
        part: {"examples": len(examples), "sha256": loader.digest(examples)}
        for part, examples in (("train", train), ("validation", valid))
    }
    begun = {"start": starting.digest(start)} if start else {}
    return {"model": spec.name, "settings": settings, "data": data | begun}


def _restore(
    state: dict[str, Any], net: Any, optimizer: Any, schedule: Schedule, fabric: Fabric, seed: int
) -> None:
    net.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.restore(state["schedule"])
    carrying.restore(
        net, state.get("carried", ()), fabric.global_rank, fabric.world_size, fabric.device
    )
    if len(state["random"]) == fabric.world_size:
        checkpoint.restore_random(state["random"][fabric.global_rank])
    else:
        log.warning(
            "the state was saved by %d process(es), now there are %d: dropout starts a new stream",
            *(len(state["random"]), fabric.world_size),
        )
        devices.seed_all(seed + 1000 * state["progress"].update + fabric.global_rank)


def _gather(fabric: Fabric, states: Any) -> list[Any]:
    """Every process's states, in the order of ranks."""
    if fabric.world_size == 1:
        return [states]
    gathered: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(gathered, states)
    return gathered


def _any(fabric: Fabric, *flags: bool) -> list[bool]:
    """Which flags are set in any process (all processes get the same answer)."""
    if fabric.world_size == 1:
        return list(flags)
    votes = torch.tensor([float(flag) for flag in flags], device=fabric.device)
    return [bool(vote) for vote in fabric.all_reduce(votes, reduce_op="sum")]


def _write_outputs(
    folder: checkpoint.RunFolder,
    p: Progress,
    settings: Mapping[str, Any],
    weights_out: str | Path,
    history_out: str | Path,
) -> None:
    """Best weights with their settings, and the history; each whole or not at all."""
    weights = checkpoint.load(folder.best_path(p.best_epoch))
    checkpoint.save_weights(weights_out, weights, settings)
    write_history(p.history, history_out)
