"""Whether the bins that matter to the distal model hold causal eQTLs of the gene."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import pandas as pd

    from epiloom.data.files import atomic
    from epiloom.show import canvas
    from epiloom.show.plots_eqtl import enrichment_figure
    from epiloom.studies import eqtl_run

    table = eqtl_run.run(job.params["settings"], job.input, _lift_over(job.input.get("chain")))
    with atomic(job.output["table"]) as tmp:
        table.to_csv(tmp, sep="\t", index=False, float_format="%.6g")
    figure = enrichment_figure(pd.read_csv(job.output["table"], sep="\t"))
    canvas.save(figure, job.output["figure"])


def _lift_over(chain):
    """A function from a place to its places in the other assembly, or None without a chain file."""
    import gzip

    from pyliftover import LiftOver

    from epiloom.plan.errors import InputError

    if not chain:
        return None
    try:
        with open(chain, "rb") as file:
            opener = gzip.open if file.read(2) == b"\x1f\x8b" else open
        return LiftOver(opener(chain, "rb")).convert_coordinate
    except Exception as err:  # the library raises bare exceptions for malformed lines
        raise InputError(chain, f"is no chain file ({err}); download it again") from err


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
