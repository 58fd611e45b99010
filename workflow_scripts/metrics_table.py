"""Metrics of all runs of a model, and of the test sets of all folds pooled."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import pandas as pd

    from epiloom.data.files import atomic
    from epiloom.learn.metrics import pooled_rows

    per_run = [pd.read_csv(path, sep="\t") for path in job.input["metrics"]]
    pooled = pooled_rows(
        job.wildcards["model"],
        job.params["runs"],
        job.input["predictions"],
        job.input["baselines"],
    )
    with atomic(job.output["table"]) as tmp:
        pd.concat([*per_run, pooled]).to_csv(tmp, sep="\t", index=False)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
