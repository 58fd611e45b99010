"""Train one model on one run."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import os

    import models
    from epiloom.learn import devices, training
    from epiloom.learn.examples import open_examples

    processes = devices.processes(job.gpus)
    if processes > 1 and "RANK" not in os.environ:
        jobs.run_in_parallel(job, processes)
        return
    settings = job.params["settings"]
    spec = models.load(job.wildcards["model"])
    training.fit(
        spec,
        settings,
        open_examples(settings["examples"], settings, job.input, "train"),
        open_examples(settings["examples"], settings, job.input, "validation"),
        run_dir=job.params["run_dir"],
        weights_out=job.output["weights"],
        history_out=job.output["history"],
        threads=job.threads,
    )


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
