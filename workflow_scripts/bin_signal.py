"""One track in the bins of models of cells: counts of reads, or means of a bigWig."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from epiloom.data.genome import Genome
    from epiloom.data.reads import open_signal
    from epiloom.data.signal_counts import write_raw

    missing = job.params["missing"]
    write_raw(
        job.output["bins"].removesuffix(".npy"),
        open_signal(job.input["signal"]),
        job.params["kind"],
        Genome.load(job.input["manifest"]),
        job.params["bin_bp"],
        missing=missing["policy"],
        min_covered=missing["min_covered"],
    )


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
