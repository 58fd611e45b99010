"""Chromosomes, lengths and bin offsets of the genome store; folds must fit them."""

from epiloom.plan import jobs
from epiloom.plan.errors import InputError


def main(job: jobs.Job) -> None:
    from epiloom.data.genome import read_chrom_sizes

    sizes, wanted = job.input["sizes"], job.params
    genome = read_chrom_sizes(sizes, wanted["assembly"], wanted["chromosomes"] or None)
    held_out = {c for f in wanted["folds"].values() for c in f["validation"] + f["test"]}
    absent = sorted(held_out - set(genome.chromosomes))
    if absent:
        raise InputError(
            sizes,
            [f"has no {c}, which `folds` holds out; drop or correct it there" for c in absent],
        )
    genome.save(job.output["manifest"], wanted["bins"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
