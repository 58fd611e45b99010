"""Every remote or local input file, and the simulation that can stand in for the servers."""


rule simulate_epigenome:
    output:
        summary="simulated/truth/summary.json",
    log:
        "logs/simulate_epigenome.log",
    benchmark:
        "benchmarks/simulate_epigenome.tsv"
    conda:
        "../envs/genomics.yaml"
    threads: 2  # nothing else can run before it
    resources:
        mem_mb=3000,
        runtime=30,
    params:
        plan=PLAN.config["simulate"],
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/simulate_epigenome.py"


rule download_file:
    input:
        local=local_input,
    output:
        file="resources/{file}",
    log:
        "logs/download/{file}.log",
    wildcard_constraints:
        file=DOWNLOADS,
    priority: 10
    retries: 2
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=1000,
        runtime=720,
    params:
        source=lambda wc: plan_runs.source_dict(PLAN, f"resources/{wc.file}"),
        options=PLAN.config["download"],
    script:
        "../workflow_scripts/download_file.py"


rule sources:
    log:
        "logs/sources.log",
    localrule: True
    conda:
        "../envs/genomics.yaml"
    params:
        files=[plan_runs.source_dict(PLAN, path) for path in PLAN.files],
    script:
        "../workflow_scripts/sources.py"
