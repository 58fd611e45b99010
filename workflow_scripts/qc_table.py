"""All rows of the quality table in one file."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import pandas as pd

    from epiloom.data.files import atomic

    table = pd.concat([pd.read_csv(path, sep="\t") for path in job.input["rows"]])
    with atomic(job.output["table"]) as tmp:
        table.to_csv(tmp, sep="\t", index=False)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
