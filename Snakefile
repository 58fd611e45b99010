"""epiloom: from public accessions to trained, compared, explained models of the epigenome."""

from snakemake.utils import min_version

min_version("9.27")

# `--configfile FILE` replaces the default file, so that an example never inherits somebody's edits.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/download.smk"
include: "rules/signal.smk"
include: "rules/datasets.smk"
include: "rules/sequence.smk"
include: "rules/latents.smk"
include: "rules/cells.smk"
include: "rules/downstream.smk"
include: "rules/train.smk"
include: "rules/evaluate.smk"
include: "rules/mark_activity.smk"
include: "rules/perturbation.smk"
include: "rules/interpret.smk"
include: "rules/cells_asked.smk"
include: "rules/report.smk"


# Every result by name, so that a deleted one is made again (Snakemake leaves alone what is missing
# between an input and an output that is still up to date).
rule all:
    default_target: True
    input:
        "results/report.html",
        RESULTS,
    localrule: True


onstart:
    check_place()
    without_rate_limit()


onerror:
    # What did finish is worth reading: a report of it, with what failed and how to repeat it.
    report_partial()
