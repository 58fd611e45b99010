"""The distal partners of every gene in one cell, and the regions they lie in."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import pandas as pd

    from epiloom.data.contacts import read_contacts
    from epiloom.data.files import atomic
    from epiloom.data.genome import Genome
    from epiloom.data.partners import Rules, partner_table, region_table

    told, cell = job.params["contacts"], job.wildcards["cell"]
    names = ("min_score", "max_partners", "max_length_bp")
    rules = Rules(**{name: job.params[name] for name in names})
    genome = Genome.load(job.input["manifest"])
    partners = partner_table(
        pd.read_csv(job.input["genes"], sep="\t", dtype={"gene_id": str, "chrom": str}),
        read_contacts(told["source"], told["files"], cell, told["tissue"], rules.min_score),
        genome,
        rules,
        told["source"],
        told["tissue"],
    )
    tables = {"partners": partners, "regions": region_table(partners, genome)}
    for name, table in tables.items():
        with atomic(job.output[name]) as tmp:
            table.to_csv(tmp, sep="\t", index=False)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
