"""Provenance and the report."""


rule provenance:
    input:
        files=list(PLAN.files),
    output:
        record="results/provenance.json",
    log:
        "logs/provenance.log",
    localrule: True
    conda:
        "../envs/plots.yaml"
    params:
        plan=PLAIN_PLAN,
    script:
        "../workflow_scripts/provenance.py"


rule mark_table:
    input:
        metrics=[f"results/tables/{model}.tsv" for model in PLAN.gene_models],
        record="results/provenance.json",
    output:
        table="results/tables/marks.tsv",
        marks="results/tables/marks.png",
        second_marks="results/tables/second_marks.png",
    log:
        "logs/mark_table.log",
    conda:
        "../envs/plots.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    script:
        "../workflow_scripts/mark_table.py"


rule write_report:
    input:
        shown=plan_results.shown(PLAN),
        record="results/provenance.json",
    output:
        report="results/report.html",
    log:
        "logs/write_report.log",
    conda:
        "../envs/plots.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    script:
        "../workflow_scripts/write_report.py"


rule report_now:
    log:
        "logs/report_now.log",
    localrule: True
    conda:
        "../envs/plots.yaml"
    params:
        plan=PLAIN_PLAN,
    script:
        "../workflow_scripts/report_now.py"


# Asked for by name: `snakemake ro_crate`.
rule ro_crate:
    input:
        "results/report.html",
        RESULTS,
    output:
        crate="results/ro-crate-metadata.json",
        workflow=directory("results/workflow"),
    log:
        "logs/ro_crate.log",
    localrule: True
    conda:
        "../envs/crate.yaml"
    params:
        plan=PLAIN_PLAN,
        wanted=["results/report.html", *RESULTS],
    script:
        "../workflow_scripts/ro_crate.py"
