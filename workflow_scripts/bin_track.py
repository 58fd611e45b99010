"""One track to binned vectors of the genome store, all bin sizes from one reading."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from epiloom.data.genome import Genome
    from epiloom.data.store import bin_track

    bin_track(
        job.input["signal"],
        Genome.load(job.input["manifest"]),
        bins=job.params["bins"],
        missing=job.params["missing"]["policy"],
        min_covered=job.params["missing"]["min_covered"],
        source=job.params["source"],
        outputs=job.output["bins"],
        facts_out=job.output["facts"],
    )


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
