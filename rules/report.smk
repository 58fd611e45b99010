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


rule write_report:
    input:
        tables=[f"results/tables/{model}.tsv" for model in PLAN.config["models"]],
        runs=[
            f"results/{model}/{run}/{name}"
            for model, run in PLAN.runs
            for name in ("history.tsv", "predictions.tsv")
        ],
        qc="results/qc/tracks.tsv",
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
