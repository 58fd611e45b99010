"""Predict a chromosome, the genome or regions in every asked cell, as a bigWig per signal."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    import models
    from epiloom.show.predicted_tracks import write_predictions
    from epiloom.studies import cell_prediction, cell_questions, dna

    question, spec = job.params["question"], models.load(job.wildcards["model"])
    asked = cell_questions.opened(spec, job.input, question, job.threads)
    cells = cell_questions.cells_of(asked, job.input, question)
    bed, folder = job.input.get("bed") or None, Path(job.output["folder"])
    regions = dna.regions_of(job.wildcards["place"], asked.genome, bed)
    blocks = cell_prediction.predicted(asked, cells.vectors, regions, question["scale"])
    names = cell_prediction.track_names(asked, cells.names)
    folder.mkdir(parents=True, exist_ok=True)
    # a table has a line per bin and track: right for regions, too much for a genome
    table = folder / "predicted.tsv.gz" if bed else None
    write_predictions(blocks, asked.genome, asked.shape.bin_bp, names, folder, table)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
