"""Predict the held-out chromosomes with a model of DNA."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import models
    from epiloom.learn import dna

    dna.predict_held_out(
        models.load(job.wildcards["model"]),
        job.params["settings"],
        job.input,
        job.input["weights"],
        job.output["predictions"],
        threads=job.threads,
    )


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
