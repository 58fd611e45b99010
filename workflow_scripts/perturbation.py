"""What the distal model predicts without a mark in one interval, for the genes of one cell."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import models
    from epiloom.data.files import atomic
    from epiloom.learn.evaluation import variant_predictor
    from epiloom.studies.perturbation import Options, perturb

    spec = models.load(job.wildcards["model"])
    options = job.params["options"] | {"factors": tuple(job.params["options"]["factors"])}
    runs = [
        (run["settings"], run["files"], variant_predictor(spec, weights, threads=job.threads))
        for run, weights in zip(job.params["runs"], job.input["weights"], strict=True)
    ]
    table = perturb(runs, Options(**options))
    with atomic(job.output["table"]) as tmp:
        table.to_csv(tmp, sep="\t", index=False, float_format="%.6g", compression="gzip")


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
