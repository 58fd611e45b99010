"""Kind and common depth of every signal in the training cells; no twin of them is held out."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    import pandas as pd

    from epiloom.data import cell_groups
    from epiloom.data.genome import Genome
    from epiloom.data.labels import refuse
    from epiloom.data.signal_targets import Scales

    told, store = job.params["cells"], Path(job.input["manifest"]).parent
    split = pd.DataFrame({"part": told["parts"], "name": told["names"]}).rename_axis("cell")
    known = cell_groups.known_names()
    split["group"] = [known.get(cell_groups.key(name), name) for name in split["name"]]
    twins = [] if told["force"] else cell_groups.twins(split.reset_index())
    remedy = "keep it on one side, or set cell_groups to none"
    refuse("cells held out", [f"{twin}; {remedy}" for twin in twins])
    folder = store / f"raw{job.params['bin_bp']}"
    raws = {
        cell: {signal: [folder / track] for signal, track in told["tracks"][cell].items()}
        for cell, part in told["parts"].items()
        if part == "train"
    }
    genome = Genome.load(job.input["manifest"])
    Scales.settle(raws, genome, told["signals"]).save(job.output["scales"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
