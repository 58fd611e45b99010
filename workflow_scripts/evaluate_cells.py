"""Metrics of cells and regions that training has not seen, beside the mean over training cells."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import models
    from epiloom.learn.cell_evaluation import evaluate

    evaluate(
        models.load(job.wildcards["model"]),
        job.input,
        job.input["weights"],
        job.output["metrics"],
        most_regions=job.params["most"],
        threads=job.threads,
    )


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
