# One cell of the accuracy matrix.
rule evaluate_gsm8k:
    input:
        checkpoint=evaluated_manifest,
        data=LAYOUT.data("test"),
    output:
        record=LAYOUT.record("evaluate_gsm8k", "{variant}.{scheme}"),
    log:
        LAYOUT.log("evaluate_gsm8k", "{variant}.{scheme}"),
    benchmark:
        LAYOUT.benchmark("evaluate_gsm8k", "{variant}.{scheme}")
    conda:
        "../../envs/core.yaml"
    threads: workflow_help.needs(STUDY, "evaluate").threads
    resources:
        gpu=workflow_help.needs(STUDY, "evaluate").gpus,
        mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "evaluate").mem_mb),
        runtime=workflow_help.growing(
            workflow_help.needs(STUDY, "evaluate").runtime_min
        ),
    params:
        python=lambda wildcards: workflow_help.leased(
            STUDY, "evaluate", wildcards.scheme
        ),
        environment=lambda wildcards: workflow_help.environment_of(
            STUDY, "evaluate", wildcards.scheme
        ),
        script=SCRIPTS / "evaluate_gsm8k.py",
        settings=STUDY.settings_sha256("evaluate_gsm8k"),
    shell:
        workflow_help.with_interpreter(
            "{params.python} {params.script} "
            "--variant {wildcards.variant} --scheme {wildcards.scheme} --checkpoint {input.checkpoint} "
            "--data {input.data} --record {output.record} "
            "> {log} 2>&1"
        )
