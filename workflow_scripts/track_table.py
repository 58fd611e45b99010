"""Metrics of all runs of a model of DNA in one table."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import pandas as pd

    from epiloom.data.files import atomic

    with atomic(job.output["table"]) as tmp:
        tables = [pd.read_csv(path, sep="\t") for path in job.input["metrics"]]
        pd.concat(tables).to_csv(tmp, sep="\t", index=False)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
