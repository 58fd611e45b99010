"""What all runs and tasks come to, in two tables."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    import pandas as pd

    from epiloom.data.files import atomic

    for name in ("metrics", "differences"):
        tables = []
        for path in map(Path, job.input[name]):
            run, model = path.parts[-3], path.parts[-4]  # results/{model}/{run}/downstream/FILE
            table = pd.read_csv(path, sep="\t")
            table.insert(0, "run", run)
            table.insert(0, "model", model)
            tables.append(table)
        with atomic(job.output[name]) as tmp:
            pd.concat(tables).to_csv(tmp, sep="\t", index=False)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
