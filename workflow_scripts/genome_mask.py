"""Flags per bin: assembly gap, blacklist."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    from epiloom.data.genome import Genome, mask
    from epiloom.data.store import write_mask

    genome, bin_bp = Genome.load(job.input["manifest"]), int(job.wildcards["bin"])
    gaps, blacklist = job.input.get("gaps") or None, job.input.get("blacklist") or None
    store = Path(job.input["manifest"]).parent
    write_mask(store, mask(genome, bin_bp, gaps, blacklist), bin_bp)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
