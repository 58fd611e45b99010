"""What the study of mark activity reads: settings, tracks, and where 500-bp tiles come from."""

from __future__ import annotations

from collections.abc import Callable

from epiloom.plan.runs import Plan, folds

FOLDER = "results/mark_activity"
TILE_BP = 500  # of the gene score
WINDOW_BP = 6000  # whose bins must be there for a gene to count, as in the promoter model
USUAL = {"signal": "reads", "transform": "log1p", "max_missing": 0.0}


def settings(plan: Plan, cell: str) -> dict:
    """Signal, transform and choice of genes of the promoter model; without it, the first model's,
    and what that does not say as usual."""
    models = {model: plan.config["models"][model] for model in plan.gene_models}
    chosen = models.get("promoter_cnn") or next(iter(models.values()), {})
    return {
        **{key: chosen.get(key, value) for key, value in USUAL.items()},
        "cell": cell,
        "marks": plan.config["marks"],
        "window_bp": WINDOW_BP,
        "seed": plan.config["seed"],
        "fold": folds(plan.config)[0],
        "missing": plan.config["missing"],
    }


def tables(plan: Plan) -> list[str]:
    """Paths of the tables over all cells; [] where no model reads any feature."""
    names = ("summary", "groups", "profiles") if plan.gene_runs else ()
    return [f"{FOLDER}/{name}.tsv" for name in names]


def results(plan: Plan) -> list[str]:
    """Paths of all tables."""
    cells = plan.config["cells"] if plan.gene_runs else []
    per_cell = [f"{FOLDER}/{part}{cell}.tsv.gz" for cell in cells for part in ("", "profiles/")]
    return tables(plan) + per_cell


def tracks(plan: Plan, cell: str) -> list[str]:
    """The tracks of a cell, in the order of the marks."""
    return plan.track_names(settings(plan, cell))


def tile_bin(plan: Plan) -> int:
    """The largest bins of the store that make up tiles; 0 if there are none."""
    return max((size for size in plan.config["bins_bp"] if TILE_BP % size == 0), default=0)


def tile_sources(plan: Plan, cell: str, signal_file: Callable[[str], list[str]]) -> list[dict]:
    """What the tiles of each track are made from: its bins in the store, else its own files."""
    size = tile_bin(plan)
    if size:
        return [{"track": track, "bin_bp": size} for track in tracks(plan, cell)]
    return [{"signal": signal_file(track)} for track in tracks(plan, cell)]


def tile_files(plan: Plan, cell: str, signal_file: Callable[[str], list[str]]) -> list[str]:
    """All files that `tile_sources` names."""
    store, files = f"results/store/{plan.assembly}", []
    for source in tile_sources(plan, cell, signal_file):
        if "signal" in source:
            files += source["signal"]
        else:
            files.append(f"{store}/bins{source['bin_bp']}/{source['track']}.npy")
            files.append(f"{store}/tracks/{source['track']}.json")
    return files


def figures(plan: Plan) -> list[str]:
    """Names of the figures, without suffix."""
    profiles = [f"profiles_{kb}kb.{cell}" for cell in plan.config["cells"] for kb in (6, 40)]
    return ["correlation", "groups", *profiles]
