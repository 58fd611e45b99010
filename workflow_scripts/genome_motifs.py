"""Best motif scores of every bin of the genome and every transcription factor."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    from epiloom.data.motif_blocks import write_motif_block
    from epiloom.data.motif_sets import Rule, read_motif_set
    from epiloom.data.store import GenomeStore

    store, params = GenomeStore(Path(job.input["manifest"]).parent), job.params
    table = job.input.get("table") or None
    write_motif_block(
        store.folder,
        store.genome,
        read_motif_set(job.input["motifs"], table, params["tfs"], Rule(**params["scoring"])),
        job.output["scores"],
        job.output["flags"],
        job.output["facts"],
        regions=job.input.get("regions") or None,
        threads=job.threads,
        bin_bp=params["bin_bp"],
    )


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
