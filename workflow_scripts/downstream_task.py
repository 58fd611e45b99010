"""Evaluate one downstream task: latents beside PCA, raw tracks, other cell types."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import models
    from epiloom.data.files import atomic
    from epiloom.data.labels import Labels
    from epiloom.studies import downstream
    from epiloom.studies.window_features import Sources

    labels = Labels.read(job.input["labels"])
    sources = Sources.open(models.load(job.wildcards["model"]), job.input)
    options = downstream.Options(
        **job.params["options"], threads=job.threads, seed=job.params["seed"]
    )
    found = downstream.evaluate(
        labels,
        sources.features(labels),
        job.params["folds"],
        options,
        trained_on=sources.trained_on(job.params["fold"]),
    )
    for name, table in found._asdict().items():
        with atomic(job.output[name]) as tmp:
            table.to_csv(tmp, sep="\t", index=False)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
