# Profile of GRPO steps, one job for each type of the frozen base. A study without the section `train_profile` has none.
# Checkpoints for resuming lie outside the declared output, which Snakemake deletes on a restart.
rule profile_training:
    input:
        base=LAYOUT.manifest("base"),
        data=LAYOUT.data("train"),
    output:
        record=report(
            LAYOUT.record("profile_training", "base.{weights}"),
            caption="../report/train_profile.rst",
            category="Profiles",
        ),
    log:
        LAYOUT.log("profile_training", "base.{weights}"),
    benchmark:
        LAYOUT.benchmark("profile_training", "base.{weights}")
    wildcard_constraints:
        weights="[a-z0-9-]+",
    conda:
        "../../envs/core.yaml"
    threads: workflow_help.needs(STUDY, "train_profile").threads
    resources:
        gpu=workflow_help.needs(STUDY, "train_profile").gpus,
        mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "train_profile").mem_mb),
        runtime=workflow_help.growing(
            workflow_help.needs(STUDY, "train_profile").runtime_min
        ),
    params:
        python=workflow_help.leased(STUDY, "train_profile"),
        script=SCRIPTS / "profile_training.py",
        settings=STUDY.settings_sha256("profile_training"),
    shell:
        "{params.python} {params.script} "
        "--scheme {wildcards.weights} --base {input.base} --data {input.data} "
        "--record {output.record} "
        "> {log} 2>&1"
