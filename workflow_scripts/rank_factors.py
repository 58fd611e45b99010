"""Which factors make up the signals around a gene or place, in every asked cell."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import models
    from epiloom.data.files import atomic
    from epiloom.show import canvas
    from epiloom.show.plots_cell_asked import factors_figure
    from epiloom.studies import cell_questions

    question, spec = job.params["question"], models.load(job.wildcards["model"])
    asked = cell_questions.opened(spec, job.input, question, job.threads)
    cells = cell_questions.cells_of(asked, job.input, question)
    name, genes = job.wildcards["place"], job.input.get("annotation") or None
    chrom, position = cell_questions.place_of(name, asked.genome, genes)
    table = cell_questions.factor_table(asked, cells, chrom, position)
    with atomic(job.output["table"]) as tmp:
        table.to_csv(tmp, sep="\t", index=False, float_format="%.6g")
    where = f"{chrom}:{position:,}"
    title = where if name == f"{chrom}_{position}" else f"{name} ({where})"
    canvas.save(factors_figure(table, title), job.output["figure"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
