"""Train one model on one run."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import os

    import models
    from epiloom.learn import devices, one_run

    processes = devices.processes(job.gpus)
    if processes > 1 and "RANK" not in os.environ:
        jobs.run_in_parallel(job, processes)
        return
    one_run.train(
        models.load(job.wildcards["model"]),
        job.params["settings"],
        job.input,
        run_dir=job.params["run_dir"],
        weights=job.output["weights"],
        history=job.output["history"],
        threads=job.threads,
        start=one_run.one_place(job.input.get("start")),
    )


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
