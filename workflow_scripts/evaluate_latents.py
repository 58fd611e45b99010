"""How well tracks come back from the latents and from PCA, and which tracks latents listen to."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import models
    from epiloom.data.files import atomic
    from epiloom.learn import reconstruction
    from epiloom.learn.attribution import gradient_times_input
    from epiloom.learn.latents import Encoder
    from epiloom.studies.annotation import attribution

    model = job.wildcards["model"]
    encoder = Encoder.open(models.load(model), job.input["weights"], job.input, threads=job.threads)
    components = reconstruction.fit_components(encoder)
    components.save(job.output["pca"])
    shares = attribution(gradient_times_input(encoder), encoder.tiles.channels)
    tables = {
        "metrics": reconstruction.evaluate(encoder, model, components),
        "attribution": shares,
    }
    for name, table in tables.items():
        with atomic(job.output[name]) as tmp:
            table.to_csv(tmp, sep="\t", index=False)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
