"""Smoothness of a latent annotation, what it goes with, and where its bins lie."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from epiloom.data.files import atomic
    from epiloom.studies.latent_tables import Annotated

    made = Annotated.open(job.input["latents"], job.input["manifest"])
    tables = {
        "smoothness": made.smoothness(),
        "correlations": made.correlations(job.input, job.params["conservation"]),
        "positions": made.positions(
            job.input["genes"] or None, job.params["gene_type"], job.params["seed"]
        ),
    }
    for name, table in tables.items():
        with atomic(job.output[name]) as tmp:
            table.to_csv(tmp, sep="\t", index=False)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
