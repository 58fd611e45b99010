"""Train several runs one after the other in one process, and predict their held-out parts."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import models
    from epiloom.learn import one_run

    outputs = zip(*(job.output[key] for key in ("weights", "history", "predictions")), strict=True)
    for k, (run, out) in enumerate(zip(job.params["runs"], outputs, strict=True), 1):
        jobs.log.info("run %d of %d: %s %s", k, len(job.params["runs"]), run["model"], run["run"])
        weights, history, predictions = out
        spec, common = models.load(run["model"]), (run["settings"], run["files"])
        one_run.train(spec, *common, run["run_dir"], weights, history, threads=job.threads)
        one_run.predict(spec, *common, weights, predictions, threads=job.threads)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
