"""Histone mark activity: how active a mark is at each gene, by cell, fold and group of cells."""

from types import SimpleNamespace

from epiloom.plan import activity as plan_activity

ACTIVITY = plan_activity.FOLDER


rule mark_activity:
    input:
        manifest=f"{STORE}/manifest.json",
        genes="results/genes/genes.tsv",
        expression="results/genes/expression.tsv",
        features=lambda wc: [
            f"results/features/{track}.npy" for track in plan_activity.tracks(PLAN, wc.cell)
        ],
        tiles=lambda wc: plan_activity.tile_files(
            PLAN, wc.cell, lambda track: signal_file(SimpleNamespace(track=track))
        ),
    output:
        activity=f"{ACTIVITY}/{{cell}}.tsv.gz",
        profiles=f"{ACTIVITY}/profiles/{{cell}}.tsv.gz",
    log:
        "logs/mark_activity/{cell}.log",
    benchmark:
        "benchmarks/mark_activity/{cell}.tsv"
    wildcard_constraints:
        cell="|".join(re.escape(cell) for cell in PLAN.config["cells"]),
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=lambda wc, attempt: 3000 * attempt,
        runtime=60,
    params:
        settings=lambda wc: plan_activity.settings(PLAN, wc.cell),
        folds=plan_runs.folds(PLAN.config),
        row=lambda wc: PLAN.cells.get(wc.cell),
        tiles=lambda wc: plan_activity.tile_sources(
            PLAN, wc.cell, lambda track: signal_file(SimpleNamespace(track=track))
        ),
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/mark_activity.py"


rule mark_activity_tables:
    input:
        activity=[f"{ACTIVITY}/{cell}.tsv.gz" for cell in PLAN.config["cells"]],
        profiles=[f"{ACTIVITY}/profiles/{cell}.tsv.gz" for cell in PLAN.config["cells"]],
    output:
        summary=f"{ACTIVITY}/summary.tsv",
        groups=f"{ACTIVITY}/groups.tsv",
        profiles=f"{ACTIVITY}/profiles.tsv",
    log:
        "logs/mark_activity_tables.log",
    benchmark:
        "benchmarks/mark_activity_tables.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=lambda wc, attempt: 4000 * attempt,
        runtime=120,
    params:
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/mark_activity_tables.py"


rule mark_activity_figures:
    input:
        summary=f"{ACTIVITY}/summary.tsv",
        groups=f"{ACTIVITY}/groups.tsv",
        profiles=f"{ACTIVITY}/profiles.tsv",
    output:
        svg=[f"{ACTIVITY}/{name}.svg" for name in plan_activity.figures(PLAN)],
        png=[f"{ACTIVITY}/{name}.png" for name in plan_activity.figures(PLAN)],
    log:
        "logs/mark_activity_figures.log",
    conda:
        "../envs/plots.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    script:
        "../workflow_scripts/mark_activity_figures.py"
