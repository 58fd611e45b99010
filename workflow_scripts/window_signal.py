"""Mean signal of every track over the windows of a task."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from epiloom.data.labels import Labels
    from epiloom.learn.frames import open_tiles
    from epiloom.studies.window_features import write_signal

    write_signal(open_tiles(job.input), Labels.read(job.input["labels"]), job.output["means"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
