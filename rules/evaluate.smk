"""Metrics: one module for all models, with the baselines in the same table."""


rule evaluate_run:
    input:
        unpack(example_files),
        predictions="results/{model}/{run}/predictions.tsv",
    output:
        baselines="results/{model}/{run}/baselines.tsv",
        metrics="results/{model}/{run}/metrics.tsv",
    log:
        "logs/{model}/{run}/evaluate_run.log",
    wildcard_constraints:
        model=GENE_MODELS,
        run=OWN_JOB,
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=settings,
    script:
        "../workflow_scripts/evaluate_run.py"


for job_name, job_runs in TOGETHER.items():

    rule:
        name:
            f"evaluate_{job_name}"
        input:
            sorted({f for each in job_runs for f in files_of(each)}),
            predictions=[f"results/{m}/{r}/predictions.tsv" for m, r in job_runs],
        output:
            baselines=[f"results/{m}/{r}/baselines.tsv" for m, r in job_runs],
            metrics=[f"results/{m}/{r}/metrics.tsv" for m, r in job_runs],
        log:
            f"logs/evaluate_many/{job_name}.log",
        conda:
            "../envs/torch.yaml"
        resources:
            mem_mb=4000,
            runtime=60,
        params:
            runs=[described(*each) for each in job_runs],
        script:
            "../workflow_scripts/evaluate_many.py"


rule metrics_table:
    input:
        metrics=lambda wc: [f"results/{wc.model}/{r}/metrics.tsv" for r in runs_of(wc)],
        predictions=lambda wc: [f"results/{wc.model}/{r}/predictions.tsv" for r in runs_of(wc)],
        baselines=lambda wc: [f"results/{wc.model}/{r}/baselines.tsv" for r in runs_of(wc)],
    output:
        table="results/tables/{model}.tsv",
    log:
        "logs/{model}/metrics_table.log",
    wildcard_constraints:
        model=GENE_MODELS,
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        runs=lambda wc: [PLAN.runs[wc.model, run] for run in runs_of(wc)],
    script:
        "../workflow_scripts/metrics_table.py"
