"""Flags per bin: assembly gap, blacklist."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import numpy as np

    from epiloom.data.files import atomic
    from epiloom.data.genome import Genome, mask

    genome = Genome.load(job.input["manifest"])
    gaps, blacklist = job.input.get("gaps") or None, job.input.get("blacklist") or None
    flags = mask(genome, int(job.wildcards["bin"]), gaps, blacklist)
    with atomic(job.output["mask"]) as tmp:
        np.save(tmp, flags)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
