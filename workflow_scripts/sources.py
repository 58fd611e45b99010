"""Print what would be fetched: files, sizes, licences, what is already there."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import sys

    from epiloom.plan import sources

    files = [sources.Source(**{**f, "mirrors": tuple(f["mirrors"])}) for f in job.params["files"]]
    sys.stdout.write(sources.report(files, "."))


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
