"""Regions that a model of cells reads: the user's own, tiles with peaks, or usable tiles."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import numpy as np

    from epiloom.data import region_choice
    from epiloom.data.genome import Genome

    genome, params = Genome.load(job.input["manifest"]), job.params
    grid = {"bin_bp": params["bin_bp"], "tile_bp": params["seq_bp"]}
    if job.input.get("bed"):
        regions = region_choice.read_regions(job.input["bed"], genome, **grid)
    elif job.input.get("peaks"):
        regions = region_choice.from_peaks(
            region_choice.count_files(job.input["peaks"], genome, params["bin_bp"]),
            genome,
            least_files=params["choice"]["least_files"],
            more_than=params["choice"]["more_than"],
            without=params["choice"]["without"],
            **grid,
        )
    else:
        regions = region_choice.from_mask(
            np.load(job.input["mask"], mmap_mode="r"),
            genome,
            least_usable=params["choice"]["least_usable"],
            without=params["choice"]["without"],
            **grid,
        )
    region_choice.write_regions(job.output["regions"], regions)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
