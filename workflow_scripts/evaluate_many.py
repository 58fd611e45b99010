"""Metrics of several runs, one after the other in one process."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from epiloom.learn import run_metrics

    paths = (job.input["predictions"], job.output["baselines"], job.output["metrics"])
    for run, *files in zip(job.params["runs"], *paths, strict=True):
        run_metrics.evaluate(run["model"], run["settings"], run["files"], *files)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
