# GRPO; the script itself starts a process for each GPU. Checkpoints for resuming lie outside the declared output, which
# Snakemake deletes on a restart.
rule train_grpo:
    input:
        base=LAYOUT.manifest("base"),
        data=LAYOUT.data("train"),
    output:
        manifest=LAYOUT.manifest("{trained}"),
        record=LAYOUT.record("train_grpo", "{trained}"),
    log:
        LAYOUT.log("train_grpo", "{trained}"),
    benchmark:
        LAYOUT.benchmark("train_grpo", "{trained}")
    conda:
        "../../envs/core.yaml"
    threads: workflow_help.needs(STUDY, "train").threads
    resources:
        gpu=workflow_help.needs(STUDY, "train").gpus,
        mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "train").mem_mb),
        runtime=workflow_help.growing(workflow_help.needs(STUDY, "train").runtime_min),
    params:
        python=workflow_help.leased(STUDY, "train"),
        script=SCRIPTS / "train_grpo.py",
        settings=STUDY.settings_sha256("train_grpo"),
    shell:
        "{params.python} {params.script} "
        "--variant {wildcards.trained} --base {input.base} --data {input.data} "
        "--manifest {output.manifest} --record {output.record} "
        "> {log} 2>&1"
