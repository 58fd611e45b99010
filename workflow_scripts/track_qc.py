"""One row of the quality table."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    import pandas as pd

    from epiloom.data.files import atomic
    from epiloom.data.qc import qc_row
    from epiloom.data.store import GenomeStore

    store = GenomeStore(Path(job.input["manifest"]).parent)
    genes = pd.read_csv(job.input["genes"], sep="\t")
    row = qc_row(store, job.wildcards["track"], job.params["bin_bp"], genes["chrom"], genes["tss"])
    with atomic(job.output["row"]) as tmp:
        pd.DataFrame([row]).to_csv(tmp, sep="\t", index=False)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
