"""What weights that read cells go with: factors, motif set, reference, signals, genome.

Most of it is known only once the data are there. It is added to a run's settings before training
and so stands in the weights; with these, data of another kind are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from epiloom.data.bed import read_bed
from epiloom.data.folds import PARTS
from epiloom.data.genome import Genome
from epiloom.data.labels import refuse
from epiloom.data.motif_blocks import MotifBlock
from epiloom.data.signal_targets import Scales
from epiloom.data.tf_expression import Reference
from epiloom.data.vectors import open_matrix, read_about
from epiloom.plan.errors import InputError

BELONGS = "belongs_to"  # setting: checksums of the data that weights go with
_REMEDY = "take the data that the weights were made with, or train again"


def settings_from(settings: Mapping[str, Any], files: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings, completed by what only its files tell, and held against them.

    Added are `tfs` (names in order), `signals`, `motif_step`, `bin_bp`, `seq_bp` where they are not
    set, and `belongs_to`: assembly and checksums of motif set, reference and scales. What is set
    must agree; so the settings of weights refuse data of another kind.

    Args:
        files: see `RegionTable.read`.

    Raises:
        InputError: everything that does not agree, at once.
    """
    genome = Genome.load(files["manifest"])
    found = dict(settings)
    if found.get("seq_bp") is None:
        table = read_bed(files["regions"], genome)
        if table.empty:
            raise InputError(files["regions"], "holds no region; give at least one")
        found["seq_bp"] = int(table["end"].iloc[0] - table["start"].iloc[0])
    reference, scales = Reference.load(files["reference"]), Scales.load(files["scales"])
    return agreed(found, genome, open_block(files), reference, scales)


def agreed(
    settings: Mapping[str, Any],
    genome: Genome,
    block: MotifBlock | None,
    reference: Reference,
    scales: Scales | None = None,
) -> dict[str, Any]:
    """The same of opened data; what is None is neither checked nor added."""
    told: dict[str, Any] = {"tfs": list(reference.factors)}
    sums = {"assembly": genome.assembly, "reference": reference.checksum}
    if block is not None:
        told |= {"motif_step": block.step, "bin_bp": block.bin_bp}
        sums["motifs"] = block.about["sha256_of_motifs"]
    if scales is not None:
        told["signals"] = list(scales.signals)
        sums["scales"] = scales.checksum
    problems = []
    for key, value in told.items():
        given = settings.get(key)
        if key == "signals" and isinstance(given, list | tuple):
            unknown = [s for s in given if s not in value]
            problems += [f"signal {s!r} is none of {', '.join(value)}; {_REMEDY}" for s in unknown]
            told[key] = list(given)
        elif given is not None and given not in (value, _number(value)):
            problems.append(f"{_difference(key, given, value)}; {_REMEDY}")
    known = {"assembly": settings.get("assembly")} | dict(settings.get(BELONGS) or {})
    for key, value in sums.items():
        if known.get(key) not in (None, value):
            what = f"is {value}, not {known[key]}" if key == "assembly" else "is another one"
            problems.append(f"{_WORDS[key]} {what}; {_REMEDY}")
    refuse("data of the model", problems)
    return {**settings, **told, BELONGS: {**(settings.get(BELONGS) or {}), **sums}}


_WORDS = {
    "assembly": "the genome",
    "motifs": "the motif set or its rule",
    "reference": "the reference of expression (factors, their order, or training cells)",
    "scales": "the scale of the signals (kinds or depths)",
}


def _number(found: Any) -> Any:
    """How many, of a list."""
    return len(found) if isinstance(found, list) else found


def _difference(key: str, given: Any, found: Any) -> str:
    if not isinstance(given, list | tuple):
        return f"{key}: {given} in the settings, {_number(found)} in the data"
    if sorted(given) == sorted(found):
        k = next(i for i, (a, b) in enumerate(zip(given, found, strict=True)) if a != b)
        return f"{key} stand in another order: number {k + 1} is {found[k]}, not {given[k]}"
    more, less = sorted(set(found) - set(given)), sorted(set(given) - set(found))
    return f"{key}: {len(more)} not known to the model ({', '.join(more[:5])}), {len(less)} missing"


def cells_by_part(settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """Cells that train, stop the training and are scored: `cells` by part, or a key for each."""
    given = settings.get("cells")
    return {
        part: list(given.get(part, ()) if given else settings[f"{part}_cells"]) for part in PARTS
    }


def open_block(files: Mapping[str, Any]) -> MotifBlock:
    """The motif block of some files."""
    about = files.get("motif_facts") or files["motif_about"]
    return MotifBlock.open(files["manifest"], files["motifs"], files["motif_flags"], about)


def open_mean(
    files: Mapping[str, Any], train: Sequence[str], genome: Genome, scales: Scales | None = None
) -> np.ndarray:
    """Mean signal of the training cells, float16 [genome.total(bin_bp), signals], mapped.

    Raises:
        InputError: not there, of other cells than `train`, or on another scale.
    """
    about = read_about(files["mean_facts"], genome)
    problems = []
    if sorted(about["cells"]) != sorted(train):
        problems.append(
            f"is the mean of {', '.join(about['cells'][:9])}; the model's training cells are "
            f"{', '.join(train[:9])}; {_REMEDY}"
        )
    if scales is not None and about["sha256_of_scales"] != scales.checksum:
        problems.append(f"is on another scale; {_REMEDY}")
    refuse(files["mean_facts"], problems)
    shape = (genome.total(about["bin_bp"]), len(about["signals"]))
    return open_matrix(files["mean"], np.float16, shape, "the mean of the training cells")


def columns_of(tfs: Sequence[str], there: Sequence[str]) -> np.ndarray | None:
    """Columns of a block in the order of a model's factors; None if they are just these.

    Raises:
        InputError: factors without a column.
    """
    if list(tfs) == list(there):
        return None
    place = {tf: k for k, tf in enumerate(there)}
    absent = [tf for tf in tfs if tf not in place]
    if absent:
        raise InputError(
            "motif block",
            f"has no column for {len(absent)} factors ({', '.join(absent[:5])}); make it with a "
            "motif file that has them, or the reference without them",
        )
    return np.array([place[tf] for tf in tfs])
