"""Genes with their expression, and the marks around their promoters and distal partners."""

from dataclasses import asdict

from epiloom.plan import contacts as plan_contacts


rule gene_table:
    input:
        manifest=f"{STORE}/manifest.json",
        annotation=PLAN.inputs.get("roadmap_genes", []),
        expression=PLAN.inputs.get("roadmap_rpkm", []),
    output:
        genes="results/genes/genes.tsv",
        expression="results/genes/expression.tsv",
    log:
        "logs/gene_table.log",
    priority: 10
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        cells=PLAN.config["cells"],
        gene_type=PLAN.config["gene_type"],
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/gene_table.py"


rule promoter_features:
    input:
        manifest=f"{STORE}/manifest.json",
        genes="results/genes/genes.tsv",
        signal=signal_file,
    output:
        features="results/features/{track}.npy",
    log:
        "logs/promoter_features/{track}.log",
    benchmark:
        "benchmarks/promoter_features/{track}.tsv"
    priority: 10
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=lambda wc, attempt: 3000 * attempt,
        runtime=60,
    params:
        missing=PLAN.config["missing"],
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/promoter_features.py"


rule partner_table:
    input:
        manifest=f"{STORE}/manifest.json",
        genes="results/genes/genes.tsv",
        contacts=lambda wc: plan_contacts.of(PLAN, wc.cell).files,
    output:
        partners="results/partners/{cell}.tsv",
        regions="results/partners/{cell}.regions.tsv",
    log:
        "logs/partner_table/{cell}.log",
    benchmark:
        "benchmarks/partner_table/{cell}.tsv"
    wildcard_constraints:
        cell=r"[A-Za-z0-9_]+",
    priority: 10
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=lambda wc, attempt: 4000 * attempt,
        runtime=60,
    params:
        contacts=lambda wc: asdict(plan_contacts.of(PLAN, wc.cell)),
        min_score=PLAN.config["contacts"]["min_score"],
        max_partners=PLAN.config["contacts"]["max_partners"],
        max_length_bp=PLAN.config["contacts"]["max_length_bp"],
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/partner_table.py"


rule partner_features:
    input:
        manifest=f"{STORE}/manifest.json",
        regions=lambda wc: (f"results/partners/{plan_runs.track(PLAN, wc.track).cell}.regions.tsv"),
        signal=signal_file,
    output:
        features="results/partners/{track}.npy",
    log:
        "logs/partner_features/{track}.log",
    benchmark:
        "benchmarks/partner_features/{track}.tsv"
    priority: 10
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=lambda wc, attempt: 3000 * attempt,
        runtime=60,
    params:
        missing=PLAN.config["missing"],
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/partner_features.py"
