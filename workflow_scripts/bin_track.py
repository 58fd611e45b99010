"""One track to binned vectors of the genome store, all bin sizes from one reading."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    from epiloom.data.genome import Genome
    from epiloom.data.reads import open_signal
    from epiloom.data.store import write_track

    write_track(
        Path(job.input["manifest"]).parent,
        job.wildcards["track"],
        open_signal(job.input["signal"]),
        Genome.load(job.input["manifest"]),
        bins=job.params["bins"],
        missing=job.params["missing"]["policy"],
        min_covered=job.params["missing"]["min_covered"],
    )


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
