"""Metrics of a model of DNA on its held-out chromosomes, with what simple predictors reach."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from epiloom.data.files import atomic
    from epiloom.learn import dna

    metrics = dna.evaluate(
        job.wildcards["model"], job.params["settings"], job.input, job.input["predictions"]
    )
    with atomic(job.output["metrics"]) as tmp:
        metrics.to_csv(tmp, sep="\t", index=False)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
