"""Mean of the training cells in every bin: the first guess for any cell."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import json
    from pathlib import Path

    from epiloom.data.files import atomic
    from epiloom.data.genome import Genome
    from epiloom.data.signal_targets import CellSignals, Scales, write_mean

    scales, cells = Scales.load(job.input["scales"]), list(job.params["cells"])
    folder, genome = Path(job.output["mean"]).parent, Genome.load(job.input["manifest"])
    write_mean(job.output["mean"], CellSignals(folder, cells, genome, job.params["bin_bp"], scales))
    told = {"data_version": job.params["data_version"], "assembly": genome.assembly}
    told |= {"bin_bp": job.params["bin_bp"], "cells": cells, "signals": list(scales.signals)}
    with atomic(job.output["facts"]) as tmp:
        tmp.write_text(json.dumps(told | {"sha256_of_scales": scales.checksum}, indent=1) + "\n")


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
