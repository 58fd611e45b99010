"""Genes with TSS and strand, and their expression in every cell, row by row alike."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from epiloom.data.files import atomic
    from epiloom.data.genes import gene_table
    from epiloom.data.genome import Genome

    genes, expression = gene_table(
        job.input["annotation"],
        job.input["expression"],
        Genome.load(job.input["manifest"]),
        cells=job.params["cells"],
        gene_type=job.params["gene_type"],
    )
    for table, path in ((genes, job.output["genes"]), (expression, job.output["expression"])):
        with atomic(path) as tmp:
            table.to_csv(tmp, sep="\t", index=False)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
