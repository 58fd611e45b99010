"""Make the simulated epigenome and its truth, laid out like the public servers."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    from epiloom.data.simulate import Plan, simulate

    wanted = {k: tuple(v) if isinstance(v, list) else v for k, v in job.params["plan"].items()}
    simulate(Plan(**wanted), Path(job.output["summary"]).parents[1], job.threads)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
