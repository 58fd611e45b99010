"""Mark activity over all cells: how it goes with expression, groups compared, profiles."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import pandas as pd

    from epiloom.data.files import atomic
    from epiloom.studies import groups, mark_activity

    summaries, values = [], []
    for path in job.input["activity"]:
        table = mark_activity.read_activity(path)
        summaries.append(mark_activity.summary(table))
        values.append(table[["group", "mark", "label", *mark_activity.MEASURES]])
    found = {
        "summary": pd.concat(summaries),
        "groups": groups.compare(pd.concat(values, ignore_index=True), mark_activity.MEASURES),
        "profiles": pd.concat([pd.read_csv(path, sep="\t") for path in job.input["profiles"]]),
    }
    for name, table in found.items():
        with atomic(job.output[name]) as tmp:
            digits = "%.6g" if name == "profiles" else "%.10g"
            table.to_csv(tmp, sep="\t", index=False, float_format=digits)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
