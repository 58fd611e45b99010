"""Predict and draw one region in every asked cell, with a model of cells."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import models
    from epiloom.data.annotation import read_genes
    from epiloom.data.files import atomic
    from epiloom.show import canvas
    from epiloom.show.plots_cell_region import cell_region_figure
    from epiloom.show.plots_region import Place
    from epiloom.studies import cell_questions, dna

    question, spec = job.params["question"], models.load(job.wildcards["model"])
    asked = cell_questions.opened(spec, job.input, question, job.threads)
    cells = cell_questions.cells_of(asked, job.input, question)
    region = dna.region_of(job.wildcards["region"], asked.genome)
    table = cell_questions.region_table(asked, cells, job.input, region, question["scale"])
    with atomic(job.output["table"]) as tmp:
        packed = {"method": "gzip", "mtime": 0}
        table.to_csv(tmp, sep="\t", index=False, float_format="%.6g", compression=packed)
    genes = job.input.get("annotation")
    figure = cell_region_figure(
        table,
        Place(*region),
        question["kind"],
        question["scale"],
        read_genes(genes, asked.genome, job.params["gene_type"]) if genes else None,
    )
    canvas.save(figure, job.output["figure"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
