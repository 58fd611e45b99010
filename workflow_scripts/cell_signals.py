"""Signals of one cell beside each other, at the depth of the training cells."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    import numpy as np

    from epiloom.data.genome import Genome
    from epiloom.data.signal_targets import Scales, write_cell

    folder = Path(job.input["manifest"]).parent / f"raw{job.params['bin_bp']}"
    write_cell(
        job.output["signals"].removesuffix(".npy"),
        {signal: [folder / track] for signal, track in job.params["tracks"].items()},
        Scales.load(job.input["scales"]),
        Genome.load(job.input["manifest"]),
        job.params["bin_bp"],
        np.load(job.input["mask"], mmap_mode="r"),
    )


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
