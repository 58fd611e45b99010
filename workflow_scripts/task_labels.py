"""Windows of a downstream task and their labels per cell."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from epiloom.data import label_tasks
    from epiloom.data.genome import Genome

    genome = Genome.load(job.input["manifest"])
    made = label_tasks.make(job.wildcards["task"], job.input, job.params["settings"], genome)
    made.write(job.output["labels"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
