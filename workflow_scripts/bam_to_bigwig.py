"""A BAM's coverage as a bigWig, by deepTools."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from epiloom.data.bam import bam_to_bigwig
    from epiloom.data.genome import Genome

    bam_to_bigwig(
        job.input["bam"],
        job.output["bigwig"],
        Genome.load(job.input["manifest"]),
        blacklist=job.input.get("blacklist") or None,
        threads=job.threads,
    )


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
