"""A picture of one gene: the mark around its TSS, and what each bin of it is worth to the model."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import numpy as np
    import pandas as pd

    from epiloom.plan.errors import InputError
    from epiloom.show import canvas
    from epiloom.show.plots_perturbation import gene_figure

    genes = pd.read_csv(job.input["genes"], sep="\t", dtype={"gene_id": str})
    effects = pd.read_csv(job.input["table"], sep="\t", dtype={"gene_id": str})
    wanted = job.wildcards["gene"]
    row = np.flatnonzero((genes["gene_id"] == wanted) | (genes["gene_name"] == wanted))
    if len(row) == 0:
        raise InputError(job.input["genes"], f"has no gene '{wanted}'; give its id or its name")
    gene = genes.iloc[row[0]]
    mine = effects[effects["gene_id"] == gene["gene_id"]]
    if mine.empty:
        raise InputError(
            job.input["table"],
            f"gene '{wanted}' was not perturbed: it has no signal or expression, or is not among "
            "the genes that perturbation.marks names (expressed, silent) for this mark",
        )
    depth = np.load(job.input["features"][0], mmap_mode="r", allow_pickle=False)[row[0]]
    expression = pd.read_csv(job.input["expression"], sep="\t")[job.wildcards["cell"]].iloc[row[0]]
    partners = None
    if job.input.get("partners"):
        table = pd.read_csv(job.input["partners"], sep="\t", dtype={"gene_id": str})
        partners = table[table["gene_id"] == gene["gene_id"]]
    figure = gene_figure(gene, mine, depth, float(np.log2(expression + 1)), partners)
    canvas.save(figure, job.output["figure"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
