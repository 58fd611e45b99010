"""Whether the bins that matter to the distal model hold causal eQTLs of the gene."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import pandas as pd

    from epiloom.data.chains import read_chain
    from epiloom.data.files import atomic
    from epiloom.show import canvas
    from epiloom.show.plots_eqtl import enrichment_figure
    from epiloom.studies import eqtl_run

    chain = job.input.get("chain")
    convert = read_chain(chain) if chain else None
    table = eqtl_run.run(job.params["settings"], job.input, convert)
    with atomic(job.output["table"]) as tmp:
        table.to_csv(tmp, sep="\t", index=False, float_format="%.6g")
    figure = enrichment_figure(pd.read_csv(job.output["table"], sep="\t"))
    canvas.save(figure, job.output["figure"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
