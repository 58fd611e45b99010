"""Predict and draw one region with a model of DNA."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import pandas as pd

    import models
    from epiloom.data.files import atomic
    from epiloom.learn.dna import observed
    from epiloom.show import canvas
    from epiloom.show.plots_region import Place, region_figure
    from epiloom.show.predicted_tracks import write_predictions
    from epiloom.studies import dna

    settings = job.params["settings"]
    spec = models.load(job.wildcards["model"])
    asked = dna.Asked.open(spec, settings, job.input, job.input["weights"], job.threads)
    region = dna.region_of(job.wildcards["region"], asked.genome)
    chrom, start, end = region
    measured = observed(settings, job.input)
    size = settings["bin_bp"]
    blocks = dna.predicted(asked, [region])
    with atomic(job.output["table"]) as tmp:
        write_predictions(blocks, asked.genome, size, asked.tracks, table=tmp, observed=measured)
        table = pd.read_csv(tmp, sep="\t", compression="gzip", dtype={"chrom": str})
    genes = job.input.get("genes")
    conserved = settings["conserved_by"]
    figure = region_figure(
        table,
        Place(*region),
        canvas.target_units(job.params["targets"]),
        conservation=asked.reader.conservation(chrom, start, end - start) if conserved else None,
        genes=pd.read_csv(genes, sep="\t", dtype={"chrom": str}) if genes else None,
    )
    canvas.save(figure, job.output["figure"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
