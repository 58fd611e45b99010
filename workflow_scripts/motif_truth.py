"""Do planted motifs come back, and none that bind nowhere?"""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    import pandas as pd

    from epiloom.data.files import atomic
    from epiloom.studies.planted_motifs import summary

    found = summary(pd.read_csv(job.input["matches"], sep="\t"), Path(job.input["summary"]).parent)
    with atomic(job.output["table"]) as tmp:
        found.to_csv(tmp, sep="\t", index=False, float_format="%.6g")


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
