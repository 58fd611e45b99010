"""Metrics of one run, with what simple predictors reach on the same genes."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import pandas as pd

    from epiloom.data.files import atomic
    from epiloom.learn.baselines import baselines
    from epiloom.learn.metrics import metrics_rows

    simple = baselines(job.params["settings"], job.input)
    both = pd.concat([pd.read_csv(job.input["predictions"], sep="\t"), simple])
    metrics = metrics_rows(both, job.wildcards["model"], job.params["settings"])
    for table, path in ((simple, job.output["baselines"]), (metrics, job.output["metrics"])):
        with atomic(path) as tmp:
            table.to_csv(tmp, sep="\t", index=False)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
