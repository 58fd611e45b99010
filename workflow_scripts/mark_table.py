"""Which mark predicts best, of all models: the table and its two figures."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import json
    from pathlib import Path

    from epiloom.show import marks, plots, plots_marks, results

    plan = json.loads(Path(job.input["record"]).read_text())
    table = marks.mark_table(results.read_metrics(Path(), plan))
    marks.write(table, job.output["table"])
    plots.save(plots_marks.marks_figure(table), job.output["marks"])
    plots.save(plots_marks.second_mark_figure(table), job.output["second_marks"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
