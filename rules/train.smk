"""Training: one job per run, whatever the model."""


rule train_model:
    input:
        unpack(example_files),
    output:
        weights="results/{model}/{run}/weights.pt",
        history="results/{model}/{run}/history.tsv",
    log:
        "logs/{model}/{run}/train_model.log",
    benchmark:
        "benchmarks/{model}/{run}/train_model.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=card_resource("mem_mb"),
        runtime=card_resource("runtime"),
        gpu=gpus,
    params:
        settings=settings,
        run_dir=run_dir,
    script:
        "../workflow_scripts/train_model.py"
