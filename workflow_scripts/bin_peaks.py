"""Peaks of one target as labels of bins."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    from epiloom.data.genome import Genome
    from epiloom.data.peaks import write_peaks

    manifest = job.input["manifest"]
    write_peaks(
        Path(manifest).parent,
        job.wildcards["target"],
        job.input["peaks"],
        Genome.load(manifest),
        job.params["bin_bp"],
    )


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
