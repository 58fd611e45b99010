"""What trained models of DNA are asked: regions, variants, single bases, motifs."""

FOLDS = {fold["name"]: fold for fold in plan_runs.folds(PLAN.config)}
REGION = r"[A-Za-z0-9_.]+_\d+-\d+"


rule predict_region:
    input:
        unpack(example_files),
        weights="results/{model}/{run}/weights.pt",
        genes="results/genes/genes.tsv" if PLAN.about_genes else [],
    output:
        table="results/{model}/{run}/predict/{region}.tsv.gz",
        figure="results/{model}/{run}/predict/{region}.png",
    log:
        "logs/{model}/{run}/predict_region/{region}.log",
    wildcard_constraints:
        model=SEQUENCE_MODELS,
        region=REGION,
    conda:
        "../envs/torch.yaml"
    threads: card_threads
    resources:
        mem_mb=card_resource("mem_mb"),
        runtime=60,
        gpu=gpus,
    params:
        settings=settings,
        targets=PLAN.config["targets"],
    script:
        "../workflow_scripts/predict_region.py"


rule predict_tracks:
    input:
        unpack(example_files),
        weights="results/{model}/{run}/weights.pt",
        bed=lambda wc: PLAN.inputs["asked_regions"] if wc.place == "bed" else [],
    output:
        folder=directory("results/{model}/{run}/tracks/{place}"),
    log:
        "logs/{model}/{run}/predict_tracks/{place}.log",
    benchmark:
        "benchmarks/{model}/{run}/predict_tracks/{place}.tsv"
    wildcard_constraints:
        model=SEQUENCE_MODELS,
        place=one_of(plan_sequence.places(PLAN)),
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
        "../workflow_scripts/predict_tracks.py"


rule mutate_region:
    input:
        unpack(example_files),
        weights="results/{model}/{run}/weights.pt",
    output:
        table="results/{model}/{run}/mutagenesis/{region}.tsv.gz",
        bigwigs=directory("results/{model}/{run}/mutagenesis/{region}"),
        figure="results/{model}/{run}/mutagenesis/{region}.png",
    log:
        "logs/{model}/{run}/mutate_region/{region}.log",
    benchmark:
        "benchmarks/{model}/{run}/mutate_region/{region}.tsv"
    wildcard_constraints:
        model=SEQUENCE_MODELS,
        region=REGION,
    conda:
        "../envs/torch.yaml"
    threads: card_threads
    resources:
        mem_mb=card_resource("mem_mb"),
        runtime=240,
        gpu=gpus,
    params:
        settings=settings,
    script:
        "../workflow_scripts/mutate_region.py"


rule planted_variants:
    input:
        summary="simulated/truth/summary.json",
    output:
        vcf="results/truth/variants.{fold}.vcf",
    log:
        "logs/planted_variants/{fold}.log",
    wildcard_constraints:
        fold=one_of(FOLDS),
    localrule: True
    conda:
        "../envs/torch.yaml"
    params:
        chromosomes=lambda wc: FOLDS[wc.fold]["test"],
    script:
        "../workflow_scripts/planted_variants.py"


rule score_variants:
    input:
        unpack(example_files),
        weights="results/{model}/{run}/weights.pt",
        variants=lambda wc: plan_sequence.variants(PLAN, settings(wc)),
    output:
        table="results/{model}/{run}/variants.tsv",
        vcf="results/{model}/{run}/variants.vcf",
    log:
        "logs/{model}/{run}/score_variants.log",
    benchmark:
        "benchmarks/{model}/{run}/score_variants.tsv"
    wildcard_constraints:
        model=SEQUENCE_MODELS,
    conda:
        "../envs/torch.yaml"
    threads: card_threads
    resources:
        mem_mb=card_resource("mem_mb"),
        runtime=240,
        gpu=gpus,
    params:
        settings=settings,
        matched=PLAN.config["interpret"]["matched"],
    script:
        "../workflow_scripts/score_variants.py"


rule variant_truth:
    input:
        scores="results/{model}/{run}/variants.tsv",
        summary="simulated/truth/summary.json",
    output:
        table="results/{model}/{run}/variants.truth.tsv",
        figure="results/{model}/{run}/variants.truth.png",
    log:
        "logs/{model}/{run}/variant_truth.log",
    wildcard_constraints:
        model=f"{SEQUENCE_MODELS}|{CELL_MODELS}",
    localrule: True
    conda:
        "../envs/torch.yaml"
    script:
        "../workflow_scripts/variant_truth.py"


rule find_motifs:
    input:
        unpack(example_files),
        weights="results/{model}/{run}/weights.pt",
        known=PLAN.inputs.get("hocomoco_meme", []),
    output:
        table="results/{model}/{run}/motifs.tsv",
        meme="results/{model}/{run}/motifs.meme",
        figure="results/{model}/{run}/motifs.png",
    log:
        "logs/{model}/{run}/find_motifs.log",
    benchmark:
        "benchmarks/{model}/{run}/find_motifs.tsv"
    wildcard_constraints:
        model=SEQUENCE_MODELS,
    conda:
        "../envs/torch.yaml"
    threads: card_threads
    resources:
        mem_mb=card_resource("mem_mb"),
        runtime=120,
        gpu=gpus,
    params:
        settings=settings,
        windows=PLAN.config["interpret"]["motifs"],
    script:
        "../workflow_scripts/find_motifs.py"


rule motif_truth:
    input:
        matches="results/{model}/{run}/motifs.tsv",
        summary="simulated/truth/summary.json",
    output:
        table="results/{model}/{run}/motifs.truth.tsv",
    log:
        "logs/{model}/{run}/motif_truth.log",
    wildcard_constraints:
        model=SEQUENCE_MODELS,
    localrule: True
    conda:
        "../envs/torch.yaml"
    script:
        "../workflow_scripts/motif_truth.py"
