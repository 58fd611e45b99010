"""What variants change in the predicted tracks of a model of DNA."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import models
    from epiloom.studies import dna
    from epiloom.studies.variant_background import write_table, write_vcf

    settings = job.params["settings"]
    spec = models.load(job.wildcards["model"])
    asked = dna.Asked.open(spec, settings, job.input, job.input["weights"], job.threads)
    scored = dna.scored(asked, job.input["variants"], job.params["matched"], settings["seed"])
    write_table(job.output["table"], scored)
    write_vcf(job.output["vcf"], scored, asked.genome, job.wildcards["model"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
