"""In-silico perturbation of a mark, and what it says about enhancers and eQTLs."""

PERTURBED = "results/{model}/perturbation/{cell}.{mark}"


rule perturbation:
    input:
        unpack(perturbed_files),
        weights=lambda wc: [f"results/{wc.model}/{run}/weights.pt" for run in perturbed_runs(wc)],
    output:
        table=f"{PERTURBED}.tsv.gz",
    log:
        "logs/{model}/perturbation/{cell}.{mark}.log",
    benchmark:
        "benchmarks/{model}/perturbation/{cell}.{mark}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=card_resource("mem_mb"),
        runtime=card_resource("runtime"),
        gpu=gpus,
    params:
        runs=lambda wc: [described(wc.model, run) for run in perturbed_runs(wc)],
        options=lambda wc: plan_studies.options(PLAN, wc.mark),
    script:
        "../workflow_scripts/perturbation.py"


rule perturbation_gene:
    input:
        unpack(perturbed_files),
        table=f"{PERTURBED}.tsv.gz",
    output:
        figure=f"{PERTURBED}.{{gene}}.png",
    log:
        "logs/{model}/perturbation/{cell}.{mark}.{gene}.log",
    conda:
        "../envs/plots.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    script:
        "../workflow_scripts/perturbation_gene.py"


rule perturbation_truth:
    input:
        tables=lambda wc: [t.table for t in plan_studies.perturbed(PLAN) if t.model == wc.model],
        summary="simulated/truth/summary.json",
    output:
        table="results/{model}/perturbation/truth.tsv",
    log:
        "logs/{model}/perturbation/truth.log",
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    script:
        "../workflow_scripts/perturbation_truth.py"


rule eqtl_enrichment:
    input:
        perturbation=[each.table for each in plan_studies.eqtl_tables(PLAN)],
        eqtls=PLAN.inputs.get("causal_eqtl", []),
        fasta=PLAN.inputs.get("genome_fasta", []),
        chain=PLAN.inputs.get("liftover_hg38_hg19", []),
        genes="results/genes/genes.tsv",
        features=[
            f for each in plan_studies.eqtl_tables(PLAN) for f in perturbed_files(each)["features"]
        ],
        partners=[
            perturbed_files(each)["partners"]
            for each in plan_studies.eqtl_tables(PLAN)
            if "partners" in perturbed_files(each)
        ],
    output:
        table=plan_studies.EQTL_TABLE,
        figure="results/eqtl_enrichment/enrichment.png",
    log:
        "logs/eqtl_enrichment.log",
    benchmark:
        "benchmarks/eqtl_enrichment.tsv"
    conda:
        "../envs/plots.yaml"
    resources:
        mem_mb=lambda wc, attempt: 6000 * attempt,
        runtime=60,
    params:
        settings=plan_studies.eqtl_settings(PLAN),
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/eqtl_enrichment.py"
