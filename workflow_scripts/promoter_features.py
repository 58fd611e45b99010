"""A track around every TSS: 400 bins of 100 bp in the direction of transcription."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import numpy as np
    import pandas as pd

    from epiloom.data.files import atomic
    from epiloom.data.genes import promoter_features
    from epiloom.data.genome import Genome
    from epiloom.data.reads import open_signal

    features = promoter_features(
        open_signal(job.input["signal"]),
        pd.read_csv(job.input["genes"], sep="\t"),
        Genome.load(job.input["manifest"]),
        missing=job.params["missing"]["policy"],
        min_covered=job.params["missing"]["min_covered"],
    )
    with atomic(job.output["features"]) as tmp:
        np.save(tmp, features)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
