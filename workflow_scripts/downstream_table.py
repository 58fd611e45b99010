"""What all runs and tasks come to, in two tables."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    import pandas as pd

    from epiloom.data.files import atomic
    from epiloom.data.labels import Labels
    from epiloom.studies.downstream import Options
    from epiloom.studies.downstream_pooled import OWN_FOLDS, pooled

    def of(path):  # results/{model}/{run}/downstream/{task}.{kind}
        path = Path(path)
        return path.parts[-4], path.parts[-3], path.name.partition(".")[0]

    def named(table, model, run):
        table.insert(0, "model", model)
        table.insert(1, "run", run)
        return table

    tables = {"metrics": [], "differences": []}
    for name, found in tables.items():
        for path in job.input[name]:
            model, run, _ = of(path)
            found.append(named(pd.read_csv(path, sep="\t"), model, run))
    options = Options(**job.params["options"], seed=job.params["seed"])
    labels = {Path(path).stem: path for path in job.input["labels"]}
    for model, task in job.params["pooled"]:
        own = [path for path in job.input["scores"] if of(path)[::2] == (model, task)]
        scores = {job.params["runs"][of(p)[1]]: pd.read_csv(p, sep="\t") for p in own}
        made = pooled(scores, Labels.read(labels[task]), options)
        for name, table in zip(tables, made, strict=True):
            tables[name].append(named(table, model, OWN_FOLDS))
    for name, found in tables.items():
        with atomic(job.output[name]) as tmp:
            pd.concat(found).to_csv(tmp, sep="\t", index=False)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
