"""Predict the held-out parts of one run."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import pandas as pd

    import models
    from epiloom.data.files import atomic
    from epiloom.learn.evaluation import predictions
    from epiloom.learn.examples import open_examples

    settings, spec = job.params["settings"], models.load(job.wildcards["model"])
    parts = [
        predictions(
            spec,
            job.input["weights"],
            open_examples(settings["examples"], settings, job.input, part),
            part,
            threads=job.threads,
        )
        for part in ("validation", "test")
    ]
    with atomic(job.output["predictions"]) as tmp:
        pd.concat(parts).to_csv(tmp, sep="\t", index=False)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
