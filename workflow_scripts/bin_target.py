"""One track that models of DNA predict, in bins."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    from epiloom.data.genome import Genome
    from epiloom.data.targets import write_target

    manifest = job.input["manifest"]
    write_target(
        Path(manifest).parent,
        job.wildcards["target"],
        job.input["signal"],
        Genome.load(manifest),
        job.params["bin_bp"],
        job.params["values"],
        blacklist=job.input.get("blacklist") or None,
        threads=job.threads,
    )


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
