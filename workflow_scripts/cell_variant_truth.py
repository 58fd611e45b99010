"""Do scores of planted variants in cells have the sign and rank of their true effects?"""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    import pandas as pd

    from epiloom.data.files import atomic
    from epiloom.show import canvas
    from epiloom.show.plots_variants import planted_figure
    from epiloom.studies.planted_variants import read_truth, summary

    scores = pd.read_csv(job.input["scores"], sep="\t", dtype={"chrom": str})
    folder = Path(job.input["summary"]).parent
    with atomic(job.output["table"]) as tmp:
        summary(scores, folder).to_csv(tmp, sep="\t", index=False, float_format="%.6g")
    canvas.save(planted_figure(scores, read_truth(folder)), job.output["figure"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
