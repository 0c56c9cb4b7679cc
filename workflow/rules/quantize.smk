# A quantized checkpoint of one variant, proved to load and generate.
rule quantize:
    input:
        checkpoint=dense_manifest,
        data=LAYOUT.data("train"),
    output:
        manifest=LAYOUT.scratch
        / "checkpoints"
        / "{variant}"
        / "{quantized}"
        / "manifest.json",
        record=LAYOUT.record("quantize", "{variant}.{quantized}"),
    log:
        LAYOUT.log("quantize", "{variant}.{quantized}"),
    benchmark:
        LAYOUT.benchmark("quantize", "{variant}.{quantized}")
    conda:
        "../../envs/core.yaml"
    threads: workflow_help.needs(STUDY, "quantize").threads
    resources:
        gpu=workflow_help.needs(STUDY, "quantize").gpus,
        mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "quantize").mem_mb),
        runtime=workflow_help.growing(
            workflow_help.needs(STUDY, "quantize").runtime_min
        ),
    params:
        python=lambda wildcards: workflow_help.leased(
            STUDY, "quantize", wildcards.quantized
        ),
        environment=lambda wildcards: workflow_help.environment_of(
            STUDY, "quantize", wildcards.quantized
        ),
        script=SCRIPTS / "quantize.py",
        settings=STUDY.settings_sha256("quantize"),
    shell:
        workflow_help.with_interpreter(
            "{params.python} {params.script} "
            "--variant {wildcards.variant} --scheme {wildcards.quantized} --checkpoint {input.checkpoint} "
            "--data {input.data} --manifest {output.manifest} --record {output.record} "
            "> {log} 2>&1"
        )
