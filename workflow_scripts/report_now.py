"""A report of whatever has finished so far, and of what has not: `results/report.partial.html`."""

from epiloom.plan import jobs

OUT = "results/report.partial.html"


def main(job: jobs.Job) -> None:
    from pathlib import Path

    from epiloom.show.provenance import record
    from epiloom.show.report import build_report

    build_report(Path(), OUT, record(job.params["plan"]), partial=True)
    jobs.log.warning("report of what has finished: %s", Path(OUT).resolve())


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
