"""Loops of one cell on the grid of bins, lifted over if their table is on another assembly."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from epiloom.data.chains import read_chain
    from epiloom.data.genome import Genome
    from epiloom.data.loops import Loops, lift_loops, read_loops
    from epiloom.data.vectors import write_about

    genome, choice = Genome.load(job.input["manifest"]), job.params["choice"]
    table = read_loops(job.input["loops"], job.wildcards["cell"], choice["max_q"])
    told = {"table_assembly": choice["assembly"], "read": len(table), "lost": {}}
    if chain := job.input.get("chain"):
        table, told["lost"] = lift_loops(table, read_chain(chain))
    loops = Loops.of(table, genome, job.params["bin_bp"], choice["weight"])
    loops.save(job.output["loops"])
    # `elsewhere`: on chromosomes that the study does not read; equal pairs are kept as one loop
    elsewhere = ~table["chrom"].isin(genome.chromosomes)
    told |= {"elsewhere": int(elsewhere.sum()), "kept": len(loops)}
    write_about(job.output["facts"], genome, job.input["loops"], **told)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
