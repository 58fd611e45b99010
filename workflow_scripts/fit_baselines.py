"""What simple predictors reach on the same genes."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from epiloom.data.files import atomic
    from epiloom.learn.baselines import baselines

    table = baselines(job.params["settings"], job.input)
    with atomic(job.output["predictions"]) as tmp:
        table.to_csv(tmp, sep="\t", index=False)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
