"""Attention between the bins around a region in every asked cell, beside observed loops."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import models
    from epiloom.data.files import atomic
    from epiloom.show import canvas
    from epiloom.show.plots_cell_asked import contacts_figure
    from epiloom.studies import cell_questions, dna

    question, spec = job.params["question"], models.load(job.wildcards["model"])
    asked = cell_questions.opened(spec, job.input, question, job.threads)
    cells = cell_questions.cells_of(asked, job.input, question)
    chrom, start, end = dna.region_of(job.wildcards["region"], asked.genome)
    found = cell_questions.contacts_around(asked, cells, job.input, (chrom, start, end))
    table = cell_questions.contacts_table(asked, cells, found)
    with atomic(job.output["table"]) as tmp:
        packed = {"method": "gzip", "mtime": 0}
        table.to_csv(tmp, sep="\t", index=False, float_format="%.4g", compression=packed)
    window = (chrom, found.start, asked.shape.bin_bp)
    figure = contacts_figure(cells.names, found.attention, found.loops, window, (start, end))
    canvas.save(figure, job.output["figure"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
