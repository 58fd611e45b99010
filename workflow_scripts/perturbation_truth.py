"""How the perturbed bins that hold planted enhancers rank, in a simulated epigenome."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    import pandas as pd

    from epiloom.data.files import atomic
    from epiloom.studies.planted import summary

    tables = [pd.read_csv(path, sep="\t") for path in job.input["tables"]]
    found = summary(tables, Path(job.input["summary"]).parent)
    with atomic(job.output["table"]) as tmp:
        found.to_csv(tmp, sep="\t", index=False, float_format="%.6g")


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
