"""Aligned reads to sorted starts and ends per chromosome."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from epiloom.data.genome import Genome
    from epiloom.data.reads import sort_reads

    out = job.output
    genome = Genome.load(job.input["manifest"])
    sort_reads(job.input["reads"], genome, out["starts"], out["ends"], out["facts"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
