"""Scores of known motifs along the genome, for models that read which factors may bind where."""

MOTIF_BP = 128


rule genome_motifs:
    input:
        manifest=f"{STORE}/manifest.json",
        bases=f"{STORE}/sequence/bases.npy",
        facts=f"{STORE}/sequence/bases.json",
        motifs=PLAN.inputs.get("hocomoco_meme", []),
        table=PLAN.inputs.get("hocomoco_annotation", []),
        regions=PLAN.inputs.get("motif_regions", []),
    output:
        scores=f"{STORE}/motifs{MOTIF_BP}/{{motif_set}}.npy",
        flags=f"{STORE}/motifs{MOTIF_BP}/{{motif_set}}.flags.npy",
        facts=f"{STORE}/motifs{MOTIF_BP}/{{motif_set}}.json",
    log:
        "logs/genome_motifs/{motif_set}.log",
    benchmark:
        "benchmarks/genome_motifs/{motif_set}.tsv"
    wildcard_constraints:
        motif_set=r"[A-Za-z0-9_]+",
    conda:
        "../envs/torch.yaml"
    threads: 4
    resources:
        mem_mb=lambda wc, attempt: 6000 * attempt,
        runtime=240,
    params:
        scoring={"threshold": "p", "value": 0.001, "pseudocount": 0.0, "gc": 0.5},
        tfs=None,
        bin_bp=MOTIF_BP,
        data_version=plan_runs.DATA_VERSION,
    script:
        "../workflow_scripts/genome_motifs.py"
