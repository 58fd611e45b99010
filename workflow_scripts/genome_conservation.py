"""The conservation of every base, for models of DNA."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    from epiloom.data.conservation import write_conservation
    from epiloom.data.genome import Genome

    manifest = job.input["manifest"]
    folder, genome = Path(manifest).parent, Genome.load(manifest)
    write_conservation(folder, job.wildcards["source"], job.input["bigwig"], genome)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
