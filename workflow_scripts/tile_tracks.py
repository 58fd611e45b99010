"""Put all tracks of a model beside each other, bin by bin."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    from epiloom.data.store import GenomeStore
    from epiloom.data.tiles import write_tiles

    write_tiles(
        GenomeStore(Path(job.input["manifest"]).parent),
        job.params["tracks"],
        job.params["bin_bp"],
        job.output["tiles"],
        job.output["flags"],
        job.output["channels"],
        threads=job.threads,
    )


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
