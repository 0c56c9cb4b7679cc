# Weight statistics of a variant, and what training changed in code space.
rule diagnose_weights:
    input:
        checkpoint=dense_manifest,
        base=LAYOUT.manifest("base"),
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
        python=workflow_help.interpreter(STUDY, "diagnose"),
        script=SCRIPTS / "diagnose_weights.py",
        settings=STUDY.settings_sha256("diagnose_weights"),
    shell:
        "{params.python} {params.script} "
        "--variant {wildcards.variant} --checkpoint {input.checkpoint} --base {input.base} "
        "--record {output.record} "
        "> {log} 2>&1"
