"""Training and prediction: one job per run, whatever the model, or several runs in one job."""

TOGETHER = plan_runs.jobs_of_many(PLAN)  # runs that share a job, by the job's name
# All others have jobs of their own; so have runs outside the plan, whose rules refuse them kindly.
OWN_JOB = rf"(?!(?:{one_of(run for runs in TOGETHER.values() for _, run in runs)})/)[\w.+-]+"


rule train_model:
    input:
        unpack(example_files),
        start=lambda wc: plan_sequence.start(PLAN, wc.model, settings(wc)),
    output:
        weights="results/{model}/{run}/weights.pt",
        history="results/{model}/{run}/history.tsv",
        record="results/{model}/{run}/run.json",
    log:
        "logs/{model}/{run}/train_model.log",
    benchmark:
        "benchmarks/{model}/{run}/train_model.tsv"
    wildcard_constraints:
        run=OWN_JOB,
    priority: 10
    conda:
        "../envs/torch.yaml"
    threads: card_threads
    resources:
        mem_mb=card_resource("mem_mb"),
        runtime=card_resource("runtime"),
        gpu=gpus,
    params:
        settings=settings,
        run_dir=run_dir,
    script:
        "../workflow_scripts/train_model.py"


rule predict_model:
    input:
        unpack(example_files),
        weights="results/{model}/{run}/weights.pt",
    output:
        predictions="results/{model}/{run}/predictions.tsv",
    log:
        "logs/{model}/{run}/predict_model.log",
    wildcard_constraints:
        model=GENE_MODELS,
        run=OWN_JOB,
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=card_resource("mem_mb"),
        runtime=60,
    params:
        settings=settings,
    script:
        "../workflow_scripts/predict_model.py"


for job_name, job_runs in TOGETHER.items():

    rule:
        name:
            f"train_{job_name}"
        input:
            sorted({f for each in job_runs for f in files_of(each)}),
        output:
            weights=[f"results/{m}/{r}/weights.pt" for m, r in job_runs],
            history=[f"results/{m}/{r}/history.tsv" for m, r in job_runs],
            predictions=[f"results/{m}/{r}/predictions.tsv" for m, r in job_runs],
            record=[f"results/{m}/{r}/run.json" for m, r in job_runs],
        log:
            f"logs/train_many/{job_name}.log",
        benchmark:
            f"benchmarks/train_many/{job_name}.tsv"
        priority: 10
        conda:
            "../envs/torch.yaml"
        threads: 1
        resources:
            mem_mb=lambda wc, attempt, model=job_runs[0][0]: (
                PLAN.cards[model]["resources"]["mem_mb"] * attempt
            ),
            runtime=lambda wc, attempt, model=job_runs[0][0], n=len(job_runs): (
                PLAN.cards[model]["resources"]["runtime"] * attempt * n
            ),
            gpu=PLAN.config["models"][job_runs[0][0]]["gpu"],
        params:
            runs=[described(*each) for each in job_runs],
        script:
            "../workflow_scripts/train_many.py"
