"""What trained models of cells are asked: regions, variants, factors, contacts, new cells."""


rule predict_cells:
    input:
        unpack(example_files),
        unpack(question_files),
        weights="results/{model}/{run}/weights.pt",
    output:
        table="results/{model}/{run}/predict/{region}.tsv.gz",
        figure="results/{model}/{run}/predict/{region}.png",
    log:
        "logs/{model}/{run}/predict_cells/{region}.log",
    wildcard_constraints:
        model=CELL_MODELS,
        region=REGION,
    conda:
        "../envs/torch.yaml"
    threads: card_threads
    resources:
        mem_mb=card_resource("mem_mb"),
        runtime=60,
        gpu=gpus,
    params:
        question=question,
        gene_type=PLAN.config["gene_type"],
    script:
        "../workflow_scripts/predict_cells.py"


rule predict_cell_tracks:
    input:
        unpack(example_files),
        unpack(question_files),
        weights="results/{model}/{run}/weights.pt",
        bed=lambda wc: PLAN.inputs["asked_regions"] if wc.place == "bed" else [],
    output:
        folder=directory("results/{model}/{run}/tracks/{place}"),
    log:
        "logs/{model}/{run}/predict_cell_tracks/{place}.log",
    benchmark:
        "benchmarks/{model}/{run}/predict_cell_tracks/{place}.tsv"
    wildcard_constraints:
        model=CELL_MODELS,
        place=one_of(plan_unprofiled_asked.places(PLAN)),
    conda:
        "../envs/torch.yaml"
    threads: card_threads
    resources:
        mem_mb=card_resource("mem_mb"),
        runtime=card_resource("runtime"),
        gpu=gpus,
    params:
        question=question,
    script:
        "../workflow_scripts/predict_cell_tracks.py"


rule score_cell_variants:
    input:
        unpack(example_files),
        unpack(question_files),
        weights="results/{model}/{run}/weights.pt",
        variants=lambda wc: plan_sequence.variants(PLAN, settings(wc)),
    output:
        table="results/{model}/{run}/variants.tsv",
        vcf="results/{model}/{run}/variants.vcf",
    log:
        "logs/{model}/{run}/score_cell_variants.log",
    benchmark:
        "benchmarks/{model}/{run}/score_cell_variants.tsv"
    wildcard_constraints:
        model=CELL_MODELS,
    conda:
        "../envs/torch.yaml"
    threads: card_threads
    resources:
        mem_mb=card_resource("mem_mb"),
        runtime=240,
        gpu=gpus,
    params:
        question=question,
    script:
        "../workflow_scripts/score_cell_variants.py"


rule rank_factors:
    input:
        unpack(example_files),
        unpack(question_files),
        weights="results/{model}/{run}/weights.pt",
    output:
        table="results/{model}/{run}/factors/{place}.tsv",
        figure="results/{model}/{run}/factors/{place}.png",
    log:
        "logs/{model}/{run}/rank_factors/{place}.log",
    wildcard_constraints:
        model=CELL_MODELS,
        place=r"[A-Za-z0-9_.+-]+",
    conda:
        "../envs/torch.yaml"
    threads: card_threads
    resources:
        mem_mb=card_resource("mem_mb"),
        runtime=60,
        gpu=gpus,
    params:
        question=question,
    script:
        "../workflow_scripts/rank_factors.py"


rule draw_contacts:
    input:
        unpack(example_files),
        unpack(question_files),
        weights="results/{model}/{run}/weights.pt",
    output:
        table="results/{model}/{run}/contacts/{region}.tsv.gz",
        figure="results/{model}/{run}/contacts/{region}.png",
    log:
        "logs/{model}/{run}/draw_contacts/{region}.log",
    wildcard_constraints:
        model=CELL_MODELS,
        region=REGION,
    conda:
        "../envs/torch.yaml"
    threads: card_threads
    resources:
        mem_mb=card_resource("mem_mb"),
        runtime=60,
        gpu=gpus,
    params:
        question=question,
    script:
        "../workflow_scripts/draw_contacts.py"


rule score_loops:
    input:
        unpack(example_files),
        weights="results/{model}/{run}/weights.pt",
    output:
        table="results/{model}/{run}/loops.tsv",
        figure="results/{model}/{run}/loops.png",
    log:
        "logs/{model}/{run}/score_loops.log",
    benchmark:
        "benchmarks/{model}/{run}/score_loops.tsv"
    wildcard_constraints:
        model=CELL_MODELS,
    conda:
        "../envs/torch.yaml"
    threads: card_threads
    resources:
        mem_mb=card_resource("mem_mb"),
        runtime=240,
        gpu=gpus,
    params:
        version=card_version,
    script:
        "../workflow_scripts/score_loops.py"
