"""Train one model on one run."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import os
    import time

    import models
    from epiloom.learn import devices, one_run, run_record

    processes = devices.processes(job.gpus)
    if processes > 1 and "RANK" not in os.environ:
        jobs.run_in_parallel(job, processes)
        return
    began, settings, run_dir = time.time(), job.params["settings"], job.params["run_dir"]
    history = job.output["history"]
    one_run.train(
        models.load(job.wildcards["model"]),
        settings,
        job.input,
        run_dir=run_dir,
        weights=job.output["weights"],
        history=history,
        threads=job.threads,
        start=one_run.one_place(job.input.get("start")),
    )
    run_record.write(
        *(job.output["record"], settings, job.input, run_dir, history, job.threads),
        *(jobs.command(job), began),
    )


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
