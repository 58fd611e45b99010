"""What was asked for, from which files, with which versions."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import json

    from epiloom.data.files import atomic
    from epiloom.show.provenance import record

    with atomic(job.output["record"]) as tmp:
        tmp.write_text(json.dumps(record(job.params["plan"]), indent=1))


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
