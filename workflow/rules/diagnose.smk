# Weight statistics of a variant, and what training changed in code space.
rule diagnose_weights:
    input:
        checkpoint=dense_manifest,
        base=LAYOUT.manifest("base"),
        others=diagnosis_inputs,
    output:
        record=LAYOUT.record("diagnose_weights", "{variant}"),
    log:
        LAYOUT.log("diagnose_weights", "{variant}"),
    benchmark:
        LAYOUT.benchmark("diagnose_weights", "{variant}")
    conda:
        "../../envs/core.yaml"
    threads: workflow_help.needs(STUDY, "diagnose").threads
    resources:
        gpu=workflow_help.needs(STUDY, "diagnose").gpus,
        mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "diagnose").mem_mb),
        runtime=workflow_help.growing(
            workflow_help.needs(STUDY, "diagnose").runtime_min
        ),
    params:
        python=workflow_help.leased(STUDY, "diagnose"),
        script=SCRIPTS / "diagnose_weights.py",
        options=diagnosis_options,
        settings=STUDY.settings_sha256("diagnose_weights"),
    shell:
        "{params.python} {params.script} "
        "--variant {wildcards.variant} --checkpoint {input.checkpoint} --base {input.base} "
        "--record {output.record} {params.options} "
        "> {log} 2>&1"


# A supervised fine-tune whose weights moved as far as those of the first trained variant: a control, not evaluated.
rule train_sft_control:
    input:
        base=LAYOUT.manifest("base"),
        trained=LAYOUT.manifest(matched_variant(STUDY)),
        data=LAYOUT.data("train"),
    output:
        manifest=LAYOUT.manifest("{control}"),
        record=LAYOUT.record("train_sft_control", "{control}"),
    log:
        LAYOUT.log("train_sft_control", "{control}"),
    benchmark:
        LAYOUT.benchmark("train_sft_control", "{control}")
    conda:
        "../../envs/core.yaml"
    threads: workflow_help.needs(STUDY, "train").threads
    resources:
        gpu=min(1, workflow_help.needs(STUDY, "train").gpus),  # one process, however many train
        mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "train").mem_mb),
        runtime=workflow_help.growing(workflow_help.needs(STUDY, "train").runtime_min),
    params:
        python=workflow_help.leased(
            STUDY, "train", gpus=min(1, workflow_help.needs(STUDY, "train").gpus)
        ),
        script=SCRIPTS / "train_sft_control.py",
        settings=STUDY.settings_sha256("train_sft_control"),
    shell:
        "{params.python} {params.script} "
        "--base {input.base} --trained {input.trained} --data {input.data} "
        "--manifest {output.manifest} --record {output.record} "
        "> {log} 2>&1"
