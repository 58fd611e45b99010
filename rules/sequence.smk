"""DNA, conservation and the tracks that models of DNA predict, as vectors of the genome store."""

TARGET_BP = plan_sequence.bin_bp(PLAN)


rule genome_bases:
    input:
        manifest=f"{STORE}/manifest.json",
        fasta=PLAN.inputs.get("genome_fasta", []),
    output:
        bases=f"{STORE}/sequence/bases.npy",
        facts=f"{STORE}/sequence/bases.json",
    log:
        "logs/genome_bases.log",
    benchmark:
        "benchmarks/genome_bases.tsv"
    priority: 10
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/genome_bases.py"


rule genome_conservation:
    input:
        manifest=f"{STORE}/manifest.json",
        bigwig=PLAN.inputs.get("conservation", []),
    output:
        scores=f"{STORE}/conservation/{{source}}.npy",
        facts=f"{STORE}/conservation/{{source}}.json",
    log:
        "logs/genome_conservation/{source}.log",
    benchmark:
        "benchmarks/genome_conservation/{source}.tsv"
    wildcard_constraints:
        source=one_of([PLAN.config["sequence"]["conservation"]]),
    priority: 10
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=3000,
        runtime=120,
    params:
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/genome_conservation.py"


rule bin_target:
    input:
        manifest=f"{STORE}/manifest.json",
        signal=lambda wc: PLAN.targets[wc.target].file,
        blacklist=PLAN.inputs.get("blacklist", []),
    output:
        bins=f"{STORE}/targets{TARGET_BP}/{{target}}.npy",
        facts=f"{STORE}/targets{TARGET_BP}/{{target}}.json",
    log:
        "logs/bin_target/{target}.log",
    benchmark:
        "benchmarks/bin_target/{target}.tsv"
    priority: 10
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=lambda wc, attempt: 4000 * attempt,
        runtime=120,
    params:
        values=lambda wc: PLAN.targets[wc.target].values,
        bin_bp=TARGET_BP,
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/bin_target.py"


rule bin_peaks:
    input:
        manifest=f"{STORE}/manifest.json",
        peaks=lambda wc: PLAN.targets[wc.target].peak,
    output:
        labels=f"{STORE}/peaks{TARGET_BP}/{{target}}.npy",
    log:
        "logs/bin_peaks/{target}.log",
    wildcard_constraints:
        target=one_of(t.identifier for t in PLAN.targets.values() if t.peak),
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        bin_bp=TARGET_BP,
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/bin_peaks.py"


rule predict_windows:
    input:
        unpack(example_files),
        weights="results/{model}/{run}/weights.pt",
    output:
        predictions="results/{model}/{run}/predictions.npy",
    log:
        "logs/{model}/{run}/predict_windows.log",
    benchmark:
        "benchmarks/{model}/{run}/predict_windows.tsv"
    wildcard_constraints:
        model=SEQUENCE_MODELS,
    conda:
        "../envs/torch.yaml"
    threads: card_threads
    resources:
        mem_mb=card_resource("mem_mb"),
        runtime=card_resource("runtime"),
        gpu=gpus,
    params:
        settings=settings,
    script:
        "../workflow_scripts/predict_windows.py"


rule evaluate_windows:
    input:
        unpack(example_files),
        predictions="results/{model}/{run}/predictions.npy",
        peaks=[
            f"{STORE}/peaks{TARGET_BP}/{t.identifier}.npy" for t in PLAN.targets.values() if t.peak
        ],
    output:
        metrics="results/{model}/{run}/metrics.tsv",
    log:
        "logs/{model}/{run}/evaluate_windows.log",
    benchmark:
        "benchmarks/{model}/{run}/evaluate_windows.tsv"
    wildcard_constraints:
        model=SEQUENCE_MODELS,
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=8000,
        runtime=240,
    params:
        settings=settings,
    script:
        "../workflow_scripts/evaluate_windows.py"


rule track_table:
    input:
        metrics=lambda wc: [f"results/{wc.model}/{r}/metrics.tsv" for r in runs_of(wc)],
    output:
        table="results/tables/{model}.tsv",
    log:
        "logs/{model}/track_table.log",
    wildcard_constraints:
        model=f"{SEQUENCE_MODELS}|{FRAME_MODELS}|{CELL_MODELS}",
    localrule: True
    conda:
        "../envs/torch.yaml"
    script:
        "../workflow_scripts/track_table.py"
