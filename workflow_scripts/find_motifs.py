"""Motifs that a model of DNA reads, and the known ones that they resemble."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import models
    from epiloom.data import motif_files
    from epiloom.show import canvas
    from epiloom.show.plots_variants import motifs_figure
    from epiloom.studies import dna, motif_matching

    found = dna.motifs(
        models.load(job.wildcards["model"]),
        job.params["settings"],
        job.input,
        job.input["weights"],
        job.input["known"],
        job.params["windows"],
        threads=job.threads,
    )
    motif_matching.write_table(job.output["table"], found.matches)
    motif_files.write_meme(
        job.output["meme"],
        [motif_files.Motif(each.name, each.probabilities) for each in found.found],
        [len(each.sites) for each in found.found],
    )
    canvas.save(motifs_figure(found.found, found.matches, found.known), job.output["figure"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
