"""Signals of many cells, their TF expression and motifs, for models of cells never profiled."""

CELL_BP = plan_unprofiled.bin_bp(PLAN)
MODEL_CELLS = one_of(dict.fromkeys(c for of in PLAN.cell_tracks.values() for c in of))


rule bin_signal:
    input:
        manifest=f"{STORE}/manifest.json",
        signal=lambda wc: (
            signal_file(wc)
            if plan_runs.track(PLAN, wc.track).kind != "bam"
            else plan_runs.track(PLAN, wc.track).file
        ),
    output:
        bins=f"{STORE}/raw{CELL_BP}/{{track}}.npy",
        facts=f"{STORE}/raw{CELL_BP}/{{track}}.json",
    log:
        "logs/bin_signal/{track}.log",
    benchmark:
        "benchmarks/bin_signal/{track}.tsv"
    wildcard_constraints:
        track=one_of(plan_unprofiled.track_names(PLAN)),
    priority: 10
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=lambda wc, attempt: 4000 * attempt,
        runtime=120,
    params:
        kind=lambda wc: plan_runs.track(PLAN, wc.track).kind,
        bin_bp=CELL_BP,
        missing=PLAN.config["missing"],
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/bin_signal.py"


rule settle_scales:
    input:
        manifest=f"{STORE}/manifest.json",
        raw=lambda wc: plan_unprofiled.train_raw(PLAN, *DIVISIONS[wc.division]),
    output:
        scales="results/{division}/signals/scales.json",
    log:
        "logs/{division}/settle_scales.log",
    wildcard_constraints:
        division=one_of(DIVISIONS),
    priority: 10
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        cells=lambda wc: plan_unprofiled.described(PLAN, *DIVISIONS[wc.division]),
        bin_bp=CELL_BP,
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/settle_scales.py"


rule cell_signals:
    input:
        manifest=f"{STORE}/manifest.json",
        mask=f"{STORE}/mask/{CELL_BP}.npy",
        scales="results/{division}/signals/scales.json",
        raw=lambda wc: plan_unprofiled.raw(PLAN, cell_tracks(wc)),
    output:
        signals="results/{division}/signals/{cell}.npy",
        facts="results/{division}/signals/{cell}.json",
    log:
        "logs/{division}/cell_signals/{cell}.log",
    benchmark:
        "benchmarks/{division}/cell_signals/{cell}.tsv"
    wildcard_constraints:
        division=one_of(DIVISIONS),
        cell=MODEL_CELLS,
    priority: 10
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=lambda wc, attempt: 2000 * attempt,
        runtime=60,
    params:
        tracks=cell_tracks,
        bin_bp=CELL_BP,
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/cell_signals.py"


rule mean_signal:
    input:
        manifest=f"{STORE}/manifest.json",
        scales="results/{division}/signals/scales.json",
        signals=lambda wc: [
            f"results/{wc.division}/signals/{cell}.{end}"
            for cell in cells_by_part(wc)["train"]
            for end in ("npy", "json")
        ],
    output:
        mean="results/{division}/signals/mean.npy",
        facts="results/{division}/signals/mean.json",
    log:
        "logs/{division}/mean_signal.log",
    benchmark:
        "benchmarks/{division}/mean_signal.tsv"
    wildcard_constraints:
        division=one_of(DIVISIONS),
    priority: 10
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=lambda wc, attempt: 2000 * attempt,
        runtime=120,
    params:
        cells=lambda wc: cells_by_part(wc)["train"],
        bin_bp=CELL_BP,
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/mean_signal.py"


rule choose_regions:
    input:
        manifest=f"{STORE}/manifest.json",
        mask=f"{STORE}/mask/{CELL_BP}.npy",
        bed=PLAN.inputs.get("region_bed", []),
        peaks=plan_unprofiled.peak_files(PLAN),
    output:
        regions="results/{model}/regions.bed",
    log:
        "logs/{model}/choose_regions.log",
    wildcard_constraints:
        model=CELL_MODELS,
    priority: 10
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        seq_bp=lambda wc: plan_unprofiled.sizes(PLAN.config["models"][wc.model])[0],
        bin_bp=CELL_BP,
        choice=lambda wc: PLAN.config["models"][wc.model]["regions"],
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/choose_regions.py"


rule tf_reference:
    input:
        matrix=PLAN.inputs.get("tf_matrix", []),
        symbols=PLAN.inputs.get("tf_symbols", []),
        aliases=PLAN.inputs.get("tf_aliases", []),
        motifs=PLAN.inputs.get("motif_file", []),
        table=PLAN.inputs.get("motif_table", []),
    output:
        reference="results/{division}/factors/reference.json",
        vectors="results/{division}/factors/vectors.npz",
    log:
        "logs/{division}/tf_reference.log",
    wildcard_constraints:
        division=one_of(DIVISIONS),
    priority: 10
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        cells=cells_by_part,
        scoring=plan_unprofiled.motif_rule(PLAN),
        tfs=plan_unprofiled.motif_tfs(PLAN),
        missing=lambda wc: PLAN.config["models"][DIVISIONS[wc.division][0]]["tf_expression"][
            "missing"
        ],
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/tf_reference.py"


rule genome_motifs:
    input:
        manifest=f"{STORE}/manifest.json",
        bases=f"{STORE}/sequence/bases.npy",
        facts=f"{STORE}/sequence/bases.json",
        motifs=PLAN.inputs.get("motif_file", []),
        table=PLAN.inputs.get("motif_table", []),
        regions=plan_unprofiled.motif_regions(PLAN),
    output:
        scores=f"{STORE}/motifs{CELL_BP}/{{motif_set}}.npy",
        flags=f"{STORE}/motifs{CELL_BP}/{{motif_set}}.flags.npy",
        facts=f"{STORE}/motifs{CELL_BP}/{{motif_set}}.json",
    log:
        "logs/genome_motifs/{motif_set}.log",
    benchmark:
        "benchmarks/genome_motifs/{motif_set}.tsv"
    wildcard_constraints:
        motif_set=one_of(filter(None, [plan_unprofiled.motif_set(PLAN)])),
    priority: 10
    conda:
        "../envs/torch.yaml"
    threads: at_most(4)
    resources:
        mem_mb=lambda wc, attempt: 6000 * attempt,
        runtime=240,
    params:
        scoring=plan_unprofiled.motif_rule(PLAN),
        tfs=plan_unprofiled.motif_tfs(PLAN),
        bin_bp=CELL_BP,
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/genome_motifs.py"


rule cell_loops:
    input:
        manifest=f"{STORE}/manifest.json",
        loops=lambda wc: PLAN.inputs[f"loops.{wc.cell}"],
        chain=PLAN.inputs.get("loops_chain", []),
    output:
        loops=f"{STORE}/loops{CELL_BP}/{{cell}}.npz",
        facts=f"{STORE}/loops{CELL_BP}/{{cell}}.json",
    log:
        "logs/cell_loops/{cell}.log",
    wildcard_constraints:
        cell=one_of(
            name.removeprefix("loops.") for name in PLAN.inputs if name.startswith("loops.")
        ),
    priority: 10
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=lambda wc, attempt: 3000 * attempt,
        runtime=60,
    params:
        bin_bp=CELL_BP,
        choice=plan_unprofiled.loop_options(PLAN),
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/cell_loops.py"


rule evaluate_cells:
    input:
        unpack(example_files),
        weights="results/{model}/{run}/weights.pt",
    output:
        metrics="results/{model}/{run}/metrics.tsv",
    log:
        "logs/{model}/{run}/evaluate_cells.log",
    benchmark:
        "benchmarks/{model}/{run}/evaluate_cells.tsv"
    wildcard_constraints:
        model=CELL_MODELS,
    conda:
        "../envs/torch.yaml"
    threads: card_threads
    resources:
        mem_mb=card_resource("mem_mb"),
        runtime=card_resource("runtime"),
        gpu=gpus,
    params:
        most=lambda wc: PLAN.config["models"][wc.model]["evaluate_regions"],
        version=card_version,
    script:
        "../workflow_scripts/evaluate_cells.py"
