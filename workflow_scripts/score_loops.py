"""Do loops of held-out cells and regions stand out in the attention of a model of cells?"""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import models
    from epiloom.data.files import atomic
    from epiloom.show import canvas
    from epiloom.show.plots_cell_asked import loops_figure
    from epiloom.studies.cell_loops import score_loops

    spec = models.load(job.wildcards["model"])
    table = score_loops(spec, job.input, job.input["weights"], threads=job.threads)
    with atomic(job.output["table"]) as tmp:
        table.to_csv(tmp, sep="\t", index=False, float_format="%.6g")
    canvas.save(loops_figure(table), job.output["figure"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
