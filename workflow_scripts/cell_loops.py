"""Loops of one cell on the grid of bins."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from epiloom.data.genome import Genome
    from epiloom.data.loops import Loops, read_loops

    genome, choice = Genome.load(job.input["manifest"]), job.params["choice"]
    table = read_loops(job.input["loops"], job.wildcards["cell"], choice["max_q"])
    loops = Loops.of(table, genome, job.params["bin_bp"], choice["weight"])
    loops.save(job.output["loops"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
