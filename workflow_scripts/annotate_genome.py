"""Write the latent vector of every bin of the genome."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import models
    from epiloom.learn.latents import Encoder, annotate

    weights = job.input["weights"]
    spec = models.load(job.wildcards["model"])
    annotate(
        Encoder.open(spec, weights, job.input, threads=job.threads), weights, job.output["folder"]
    )


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
