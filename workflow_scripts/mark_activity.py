"""Activity and gene score of every mark of one cell, and the marks' profiles around the TSS."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    import pandas as pd

    from epiloom.data.files import atomic
    from epiloom.data.store import GenomeStore
    from epiloom.studies import mark_activity
    from epiloom.studies.groups import group_of

    settings, folds = job.params["settings"], job.params["folds"]
    cell, group = settings["cell"], group_of(job.params["row"])
    store = GenomeStore(Path(job.input["manifest"]).parent)
    activity, profiles = [], []
    for name, features, source in zip(
        settings["marks"], job.input["features"], job.params["tiles"], strict=True
    ):
        scores = mark_activity.scores_of(source, store, job.input["genes"], settings)
        mark = mark_activity.read_mark(settings, job.input, name, features, scores)
        activity.append(mark_activity.held_out(mark, folds, cell, group))
        profiles.append(mark_activity.profiles(mark, folds, cell, settings["signal"]))
    for tables, path in ((activity, job.output["activity"]), (profiles, job.output["profiles"])):
        with atomic(path) as tmp:
            pd.concat(tables).to_csv(tmp, sep="\t", index=False, float_format="%.6g")


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
