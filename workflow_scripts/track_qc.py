"""One row of the quality table."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from epiloom.data.files import atomic
    from epiloom.data.genome import Genome
    from epiloom.data.qc import qc_row

    row = qc_row(
        job.wildcards["track"],
        Genome.load(job.input["manifest"]),
        job.params["bin_bp"],
        bins=job.input["bins"],
        facts=job.input["facts"],
        mask=job.input["mask"],
        genes=job.input["genes"],
    )
    with atomic(job.output["row"]) as tmp:
        row.to_csv(tmp, sep="\t", index=False)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
