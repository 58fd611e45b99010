"""The report of a finished run: one HTML file that opens offline."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import json
    from pathlib import Path

    from epiloom.show.report import build_report

    plan = json.loads(Path(job.input["record"]).read_text())
    build_report(Path(), job.output["report"], plan)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
