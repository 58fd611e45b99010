"""The bases of the genome as codes, for models of DNA."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    from epiloom.data.genome import Genome
    from epiloom.data.sequence import write_bases

    manifest = job.input["manifest"]
    write_bases(Path(manifest).parent, job.input["fasta"], Genome.load(manifest))


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
