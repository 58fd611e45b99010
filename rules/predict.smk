"""Predictions on the held-out parts of a run."""


rule predict_model:
    input:
        unpack(example_files),
        weights="results/{model}/{run}/weights.pt",
    output:
        predictions="results/{model}/{run}/predictions.tsv",
    log:
        "logs/{model}/{run}/predict_model.log",
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=card_resource("mem_mb"),
        runtime=60,
    params:
        settings=settings,
    script:
        "../workflow_scripts/predict_model.py"
