"""What a compressed epigenome is good for: labels of the downstream tasks."""

from epiloom.plan import downstream as plan_downstream


rule task_labels:
    input:
        unpack(lambda wc: plan_downstream.label_inputs(PLAN, wc.task)),
    output:
        labels="results/labels/{task}.tsv",
    log:
        "logs/task_labels/{task}.log",
    benchmark:
        "benchmarks/task_labels/{task}.tsv"
    wildcard_constraints:
        task=one_of(plan_downstream.tasks(PLAN)),
    conda:
        "../envs/genomics.yaml"
    resources:
        mem_mb=lambda wc, attempt: 4000 * attempt,
        runtime=180,
    params:
        settings=lambda wc: plan_downstream.label_settings(PLAN, wc.task),
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/task_labels.py"


rule window_signal:
    input:
        labels="results/labels/{task}.tsv",
        manifest=f"{STORE}/manifest.json",
        tiles=TILES[0],
        flags=TILES[1],
        channels=TILES[2],
    output:
        means="results/{model}/signal/{task}.npy",
    log:
        "logs/{model}/window_signal/{task}.log",
    benchmark:
        "benchmarks/{model}/window_signal/{task}.tsv"
    wildcard_constraints:
        model=FRAME_MODELS,
        task=one_of(plan_downstream.tasks(PLAN)),
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=lambda wc, attempt: 8000 * attempt,
        runtime=480,
    params:
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/window_signal.py"


rule downstream_task:
    input:
        labels="results/labels/{task}.tsv",
        latents="results/{model}/{run}/latents",
        weights="results/{model}/{run}/weights.pt",
        pca="results/{model}/{run}/pca.npz",
        signal="results/{model}/signal/{task}.npy",
        channels=TILES[2],
        factors=lambda wc: plan_downstream.factor_files(PLAN),
    output:
        metrics="results/{model}/{run}/downstream/{task}.metrics.tsv",
        differences="results/{model}/{run}/downstream/{task}.differences.tsv",
        curves="results/{model}/{run}/downstream/{task}.curves.tsv",
        scores="results/{model}/{run}/downstream/{task}.scores.tsv.gz",
    log:
        "logs/{model}/{run}/downstream_task/{task}.log",
    benchmark:
        "benchmarks/{model}/{run}/downstream_task/{task}.tsv"
    wildcard_constraints:
        model=FRAME_MODELS,
        task=one_of(plan_downstream.tasks(PLAN)),
    conda:
        "../envs/torch.yaml"
    threads: at_most(2)
    resources:
        mem_mb=lambda wc, attempt: 8000 * attempt,
        runtime=720,
    params:
        folds=plan_runs.folds(PLAN.config),
        fold=lambda wc: settings(wc)["fold"],
        options=lambda wc: plan_downstream.evaluation(PLAN),
        seed=PLAN.config["seed"],
    script:
        "../workflow_scripts/downstream_task.py"


POOLED = plan_channels.pooled(PLAN)


rule downstream_table:
    input:
        metrics=[path for path in plan_channels.outcomes(PLAN) if path.endswith(".metrics.tsv")],
        differences=[
            path for path in plan_channels.outcomes(PLAN) if path.endswith(".differences.tsv")
        ],
        scores=[path for path in plan_channels.outcomes(PLAN) if POOLED and path.endswith(".gz")],
        labels=plan_downstream.labels(PLAN) if POOLED else [],
    output:
        metrics="results/tables/downstream.tsv",
        differences="results/tables/downstream.differences.tsv",
    log:
        "logs/downstream_table.log",
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=lambda wc, attempt: 8000 * attempt,
        runtime=120,
    params:
        pooled=POOLED,
        runs={run: s["fold"]["name"] for (_, run), s in PLAN.frame_runs.items()},
        options=plan_downstream.evaluation(PLAN),
        seed=PLAN.config["seed"],
    script:
        "../workflow_scripts/downstream_table.py"
