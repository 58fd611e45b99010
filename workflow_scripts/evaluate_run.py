"""Metrics of one run, with what simple predictors reach on the same genes."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from epiloom.learn import run_metrics

    files = (job.input["predictions"], job.output["baselines"], job.output["metrics"])
    run_metrics.evaluate(job.wildcards["model"], job.params["settings"], job.input, *files)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
