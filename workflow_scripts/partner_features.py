"""A track over the distal partners of its cell's genes: bins of 100 bp, region after region."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import numpy as np

    from epiloom.data.files import atomic
    from epiloom.data.genome import Genome
    from epiloom.data.partners import read_regions
    from epiloom.data.reads import open_signal
    from epiloom.data.regions import region_features

    genome = Genome.load(job.input["manifest"])
    features = region_features(
        open_signal(job.input["signal"]),
        read_regions(job.input["regions"], genome),
        genome,
        missing=job.params["missing"]["policy"],
        min_covered=job.params["missing"]["min_covered"],
    )
    with atomic(job.output["features"]) as tmp:
        np.save(tmp, features)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
