"""Every base of a region replaced by each other one, with a model of DNA."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    import models
    from epiloom.data.files import atomic
    from epiloom.show import canvas
    from epiloom.show.plots_variants import map_figure
    from epiloom.show.predicted_tracks import bigwig_paths
    from epiloom.show.tracks import write_bases
    from epiloom.studies import dna

    settings = job.params["settings"]
    spec = models.load(job.wildcards["model"])
    asked = dna.Asked.open(spec, settings, job.input, job.input["weights"], job.threads)
    found = dna.mutated(asked, dna.region_of(job.wildcards["region"], asked.genome))
    with atomic(job.output["table"]) as tmp:
        found.table().to_csv(tmp, sep="\t", index=False, compression="gzip")
    paths = bigwig_paths(Path(job.output["bigwigs"]), asked.tracks)
    for (_, path), values in zip(paths.items(), found.mean(), strict=True):
        write_bases(path, asked.genome, [(found.chrom, found.start, values)])
    canvas.save(map_figure(found), job.output["figure"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
