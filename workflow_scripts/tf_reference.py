"""Expression of the transcription factors of all cells, on the scale of the training cells."""

from epiloom.plan import jobs


def main(job: jobs.Job) -> None:
    from epiloom.data import expression_tables, tf_expression
    from epiloom.data.motif_sets import Rule, read_motif_set

    given, params = job.input.get, job.params
    cells, train = sum(params["cells"].values(), []), params["cells"]["train"]
    table = expression_tables.read_matrix(job.input["matrix"], cells)
    scoring = params["scoring"] | {"threshold": "none"}  # only names are read: no need to count p
    motifs = read_motif_set(
        job.input["motifs"], given("table") or None, params["tfs"], Rule(**scoring)
    )
    factors = tf_expression.factor_rows(
        table,
        motifs.tfs,
        expression_tables.read_symbols(job.input["symbols"]) if given("symbols") else None,
        expression_tables.read_aliases(job.input["aliases"]) if given("aliases") else None,
        where=job.input["matrix"],
    ).values
    genes = tf_expression.coding_rows(table, given("symbols") or None, job.input["matrix"])
    held_out = [cell for cell in cells if cell not in train]
    reference = tf_expression.Reference.fit(factors, train, held_out, genes)
    reference.save(job.output["reference"])
    vectors = reference.vectors(factors, cells, params["missing"], genes)
    tf_expression.write_vectors(job.output["vectors"], cells, vectors, reference)


if __name__ == "__main__":
    jobs.run(main, globals().get("snakemake"))
