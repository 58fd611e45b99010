"""Predict a chromosome, the whole genome or the regions of a BED file, as a bigWig per track."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    import models
    from epiloom.learn.dna import observed
    from epiloom.show.predicted_tracks import write_predictions
    from epiloom.studies import dna

    settings = job.params["settings"]
    spec = models.load(job.wildcards["model"])
    asked = dna.Asked.open(spec, settings, job.input, job.input["weights"], job.threads)
    bed = job.input.get("bed") or None
    regions = dna.regions_of(job.wildcards["place"], asked.genome, bed)
    blocks = dna.predicted(asked, regions)
    # a table has a line per bin and track: right for regions, too much for a genome
    more = {}
    if bed:
        measured = observed(settings, job.input)
        more = {"table": Path(job.output["folder"]) / "predicted.tsv.gz", "observed": measured}
    folder = Path(job.output["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    size = settings["bin_bp"]
    write_predictions(blocks, asked.genome, size, asked.tracks, folder=folder, **more)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
