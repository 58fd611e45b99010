"""The variants of the simulation as VCF."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from pathlib import Path

    from epiloom.studies.planted_variants import write_vcf

    truth = Path(job.input["summary"]).parent
    write_vcf(truth, job.output["vcf"], job.params["chromosomes"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
