"""A track around every TSS: 400 bins of 100 bp in the direction of transcription."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import numpy as np
    import pandas as pd

    from epiloom.data.files import atomic
    from epiloom.data.genes import promoter_features
    from epiloom.data.genome import Genome

    genome = Genome.load(job.input["manifest"])
    genes = pd.read_csv(job.input["genes"], sep="\t")
    features = promoter_features(job.input["signal"], genes, genome)
    with atomic(job.output["features"]) as tmp:
        np.save(tmp, features)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
