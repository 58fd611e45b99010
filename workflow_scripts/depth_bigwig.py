"""Read depth of a track as a bigWig for browsers."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from epiloom.data.genome import Genome
    from epiloom.data.reads import Reads, write_depth_bigwig

    reads = Reads.open(job.input["reads"][2].removesuffix(".json"))
    write_depth_bigwig(reads, Genome.load(job.input["manifest"]), job.output["bigwig"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
