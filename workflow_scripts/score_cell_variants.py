"""What variants change in the predicted signals of every asked cell."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    import models
    from epiloom.studies import cell_questions
    from epiloom.studies.variant_background import write_table, write_vcf

    question, spec = job.params["question"], models.load(job.wildcards["model"])
    asked = cell_questions.opened(spec, job.input, question, job.threads, scan=True)
    cells = cell_questions.cells_of(asked, job.input, question)
    scored = cell_questions.scored(asked, cells, job.input["variants"])
    write_table(job.output["table"], scored)
    write_vcf(job.output["vcf"], scored, asked.genome, job.wildcards["model"])


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
