"""One bigWig per latent, of a chromosome or of all."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from epiloom.show.latent_tracks import write_latent_tracks
    from epiloom.studies.latent_tables import Annotated

    made = Annotated.open(job.input["latents"], job.input["manifest"])
    made = made.of(job.wildcards["place"])
    write_latent_tracks(job.output["folder"], made.genome, made.latents, made.masks)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
