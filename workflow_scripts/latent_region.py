"""Draw the latents of a region below its genes and some tracks."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    import numpy as np

    from epiloom.data.annotation import read_genes
    from epiloom.data.store import GenomeStore
    from epiloom.plan.tracks import shown_name
    from epiloom.show import canvas
    from epiloom.show.plots_latent_region import latent_region_figure
    from epiloom.show.plots_region import Place
    from epiloom.studies.dna import region_of
    from epiloom.studies.latent_tables import Annotated

    made = Annotated.open(job.input["latents"], job.input["manifest"])
    chrom, start, end = region_of(job.wildcards["region"], made.genome)
    store = GenomeStore(Path(job.input["manifest"]).parent)
    bins = len(made.latents[chrom])
    tracks = {
        shown_name(name): np.arcsinh(
            store.bins(name, job.params["bin_bp"], chrom, 0, bins).astype(np.float32)
        )
        for name in job.params["names"]
    }
    genes = job.input["genes"]
    figure = latent_region_figure(
        made.latents[chrom],
        made.masks[chrom],
        Place(chrom, start, end),
        tracks,
        read_genes(genes, made.genome, job.params["gene_type"]) if genes else None,
        centred=True,
        title=f"{job.wildcards['model']}, {job.wildcards['run']}",
    )
    canvas.save(figure, job.output["figure"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
