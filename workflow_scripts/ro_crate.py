"""The finished study as a Workflow Run RO-Crate: `results` can be handed on with it."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from epiloom.show import crate

    crate.copy_workflow(job.output["workflow"], job.params["plan"]["config"])
    wanted = job.params["wanted"]
    crate.write(".", wanted, job.output["crate"], job.output["workflow"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
