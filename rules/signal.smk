"""From reads and bigWigs to the genome store, with a quality table."""


rule genome_manifest:
    input:
        sizes=PLAN.inputs["chrom_sizes"],
    output:
        manifest=f"{STORE}/manifest.json",
    log:
        "logs/genome_manifest.log",
    priority: 10
    localrule: True
    conda:
        "../envs/genomics.yaml"
    params:
        assembly=PLAN.assembly,
        chromosomes=PLAN.config["chromosomes"],
        bins=PLAN.config["bins_bp"],
        folds=PLAN.config["folds"],
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/genome_manifest.py"


rule genome_mask:
    input:
        manifest=f"{STORE}/manifest.json",
        gaps=PLAN.inputs.get("gaps", []),
        blacklist=PLAN.inputs.get("blacklist", []),
    output:
        mask=f"{STORE}/mask/{{bin}}.npy",
    log:
        "logs/genome_mask/{bin}.log",
    priority: 10
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/genome_mask.py"


rule sort_reads:
    input:
        manifest=f"{STORE}/manifest.json",
        reads=lambda wc: plan_runs.track(PLAN, wc.track).file,
    output:
        starts=f"{STORE}/reads/{{track}}.starts.npy",
        ends=f"{STORE}/reads/{{track}}.ends.npy",
        facts=f"{STORE}/reads/{{track}}.json",
    log:
        "logs/sort_reads/{track}.log",
    benchmark:
        "benchmarks/sort_reads/{track}.tsv"
    priority: 10
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=lambda wc, attempt: 3000 * attempt,
        runtime=60,
    params:
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/sort_reads.py"


rule depth_bigwig:
    input:
        manifest=f"{STORE}/manifest.json",
        reads=[f"{STORE}/reads/{{track}}.{part}" for part in ("starts.npy", "ends.npy", "json")],
    output:
        bigwig="results/tracks/{track}.depth.bw",
    log:
        "logs/depth_bigwig/{track}.log",
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    script:
        "../workflow_scripts/depth_bigwig.py"


rule bam_to_bigwig:
    input:
        manifest=f"{STORE}/manifest.json",
        bam=lambda wc: plan_runs.track(PLAN, wc.track).file,
        blacklist=PLAN.inputs.get("blacklist", []),
    output:
        bigwig="results/tracks/{track}.bamcoverage.bw",
    log:
        "logs/bam_to_bigwig/{track}.log",
    benchmark:
        "benchmarks/bam_to_bigwig/{track}.tsv"
    conda:
        "../envs/genomics.yaml"
    threads: at_most(4)
    resources:
        mem_mb=4000,
        runtime=240,
    script:
        "../workflow_scripts/bam_to_bigwig.py"


rule bin_track:
    input:
        manifest=f"{STORE}/manifest.json",
        signal=signal_file,
    output:
        bins=[f"{STORE}/bins{size}/{{track}}.npy" for size in PLAN.config["bins_bp"]],
        facts=f"{STORE}/tracks/{{track}}.json",
    log:
        "logs/bin_track/{track}.log",
    benchmark:
        "benchmarks/bin_track/{track}.tsv"
    priority: 10
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=lambda wc, attempt: 4000 * attempt,
        runtime=60,
    params:
        bins=PLAN.config["bins_bp"],
        missing=PLAN.config["missing"],
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/bin_track.py"


QC_BIN = min(PLAN.config["bins_bp"], key=lambda size: abs(size - 100))


rule track_qc:
    input:
        manifest=f"{STORE}/manifest.json",
        bins=f"{STORE}/bins{QC_BIN}/{{track}}.npy",
        facts=f"{STORE}/tracks/{{track}}.json",
        mask=f"{STORE}/mask/{QC_BIN}.npy",
        genes="results/genes/genes.tsv",
    output:
        row="results/qc/{track}.tsv",
    log:
        "logs/track_qc/{track}.log",
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        bin_bp=QC_BIN,
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/track_qc.py"


rule qc_table:
    input:
        rows=[f"results/qc/{track}.tsv" for track in PLAN.tracks],
    output:
        table="results/qc/tracks.tsv",
    log:
        "logs/qc_table.log",
    localrule: True
    conda:
        "../envs/genomics.yaml"
    script:
        "../workflow_scripts/qc_table.py"
