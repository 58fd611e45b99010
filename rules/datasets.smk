"""Genes with their expression, and the marks around their promoters."""


rule gene_table:
    input:
        manifest=f"{STORE}/manifest.json",
        annotation=PLAN.inputs["roadmap_genes"],
        expression=PLAN.inputs["roadmap_rpkm"],
    output:
        genes="results/genes/genes.tsv",
        expression="results/genes/expression.tsv",
    log:
        "logs/gene_table.log",
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
