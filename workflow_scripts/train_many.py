"""Train several runs one after the other in one process, and predict their held-out parts."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import time

    import models
    from epiloom.learn import one_run, run_record

    names = ("weights", "history", "predictions", "record")
    outputs = zip(*(job.output[key] for key in names), strict=True)
    for k, (run, out) in enumerate(zip(job.params["runs"], outputs, strict=True), 1):
        jobs.log.info("run %d of %d: %s %s", k, len(job.params["runs"]), run["model"], run["run"])
        weights, history, predictions, record = out
        began = time.time()
        spec, common = models.load(run["model"]), (run["settings"], run["files"])
        one_run.train(spec, *common, run["run_dir"], weights, history, threads=job.threads)
        one_run.predict(spec, *common, weights, predictions, threads=job.threads)
        told = (run["settings"], run["files"], run["run_dir"], history, job.threads)
        run_record.write(record, *told, jobs.command(job), began)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
