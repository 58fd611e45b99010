"""Metrics of one run: model and baselines, validation and test."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import pandas as pd

    from epiloom.data.files import atomic
    from epiloom.learn.metrics import metrics_rows

    predictions = pd.concat(
        [pd.read_csv(job.input[k], sep="\t") for k in ("predictions", "baselines")]
    )
    table = metrics_rows(predictions, job.wildcards["model"], job.params["settings"])
    with atomic(job.output["metrics"]) as tmp:
        table.to_csv(tmp, sep="\t", index=False)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
