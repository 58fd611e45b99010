"""Models that read all tracks along the genome: tiles, the latent annotation, what it tells."""

from epiloom.plan import channels as plan_channels

CHANNEL_BP = plan_channels.BIN_BP
TILES = [f"{STORE}/tiles{CHANNEL_BP}/{{model}}{end}" for end in (".npy", ".flags.npy", ".json")]
GENES = PLAN.inputs.get("roadmap_genes", [])


rule tile_tracks:
    input:
        manifest=f"{STORE}/manifest.json",
        mask=f"{STORE}/mask/{CHANNEL_BP}.npy",
        bins=lambda wc: [f"{STORE}/bins{CHANNEL_BP}/{t}.npy" for t in PLAN.channels[wc.model]],
        facts=lambda wc: [f"{STORE}/tracks/{t}.json" for t in PLAN.channels[wc.model]],
    output:
        tiles=TILES[0],
        flags=TILES[1],
        channels=TILES[2],
    log:
        "logs/{model}/tile_tracks.log",
    benchmark:
        "benchmarks/{model}/tile_tracks.tsv"
    wildcard_constraints:
        model=FRAME_MODELS,
    priority: 10
    conda:
        "../envs/genomics.yaml"
    threads: at_most(4)
    resources:
        mem_mb=lambda wc, attempt: 6000 * attempt,
        runtime=480,
    params:
        tracks=lambda wc: PLAN.channels[wc.model],
        bin_bp=CHANNEL_BP,
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/tile_tracks.py"


rule annotate_genome:
    input:
        unpack(example_files),
        weights="results/{model}/{run}/weights.pt",
    output:
        folder=directory("results/{model}/{run}/latents"),
    log:
        "logs/{model}/{run}/annotate_genome.log",
    benchmark:
        "benchmarks/{model}/{run}/annotate_genome.tsv"
    wildcard_constraints:
        model=FRAME_MODELS,
    conda:
        "../envs/torch.yaml"
    threads: card_threads
    resources:
        mem_mb=card_resource("mem_mb"),
        runtime=card_resource("runtime"),
        gpu=gpus,
    params:
        version=card_version,
    script:
        "../workflow_scripts/annotate_genome.py"


rule evaluate_latents:
    input:
        unpack(example_files),
        weights="results/{model}/{run}/weights.pt",
    output:
        metrics="results/{model}/{run}/metrics.tsv",
        pca="results/{model}/{run}/pca.npz",
        attribution="results/{model}/{run}/attribution.tsv",
    log:
        "logs/{model}/{run}/evaluate_latents.log",
    benchmark:
        "benchmarks/{model}/{run}/evaluate_latents.tsv"
    wildcard_constraints:
        model=FRAME_MODELS,
    conda:
        "../envs/torch.yaml"
    threads: card_threads
    resources:
        mem_mb=card_resource("mem_mb"),
        runtime=card_resource("runtime"),
        gpu=gpus,
    params:
        version=card_version,
    script:
        "../workflow_scripts/evaluate_latents.py"


rule describe_latents:
    input:
        unpack(lambda wc: plan_channels.compared_files(PLAN, wc.model)),
        manifest=f"{STORE}/manifest.json",
        latents="results/{model}/{run}/latents",
        genes=GENES,
    output:
        smoothness="results/{model}/{run}/smoothness.tsv",
        correlations="results/{model}/{run}/correlations.tsv",
        positions="results/{model}/{run}/positions.tsv",
    log:
        "logs/{model}/{run}/describe_latents.log",
    benchmark:
        "benchmarks/{model}/{run}/describe_latents.tsv"
    wildcard_constraints:
        model=FRAME_MODELS,
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=16000,
        runtime=480,
    params:
        fold=lambda wc: settings(wc)["fold"],
        conservation=PLAN.config["sequence"]["conservation"],
        gene_type=PLAN.config["gene_type"],
        seed=PLAN.config["seed"],
    script:
        "../workflow_scripts/describe_latents.py"


rule latent_tracks:
    input:
        manifest=f"{STORE}/manifest.json",
        latents="results/{model}/{run}/latents",
    output:
        folder=directory("results/{model}/{run}/tracks/{place}"),
    log:
        "logs/{model}/{run}/latent_tracks/{place}.log",
    wildcard_constraints:
        model=FRAME_MODELS,
        place=r"[A-Za-z0-9_.]+",
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=8000,
        runtime=480,
    script:
        "../workflow_scripts/latent_tracks.py"


rule latent_region:
    input:
        manifest=f"{STORE}/manifest.json",
        latents="results/{model}/{run}/latents",
        tracks=lambda wc: [f"{STORE}/bins{CHANNEL_BP}/{t}.npy" for t in drawn_tracks(wc)],
        genes=GENES,
    output:
        figure="results/{model}/{run}/regions/{region}.png",
    log:
        "logs/{model}/{run}/latent_region/{region}.log",
    wildcard_constraints:
        model=FRAME_MODELS,
        region=r"[A-Za-z0-9_.]+_\d+-\d+",
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        names=lambda wc: drawn_tracks(wc),
        bin_bp=CHANNEL_BP,
        gene_type=PLAN.config["gene_type"],
    script:
        "../workflow_scripts/latent_region.py"
