"""Fetch one file, verify it, put it in place."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    from epiloom.data.download import fetch

    source, options = job.params["source"], job.params["options"]
    key = source["key"]
    fetch(
        [source["local"]] if source["local"] else [source["url"], *source["mirrors"]],
        Path(job.output["file"]),
        key=key if " " in key else f"sources.local.{key}",  # own tracks: "TABLE line N"
        bytes=source["bytes"],
        checksum=source["checksum"],
        format=source["format"],
        retries=options["attempts"],
        timeout=options["timeout_s"],
        host_limit=options["per_host"],
    )


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
