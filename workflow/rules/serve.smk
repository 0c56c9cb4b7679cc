# The serving benchmark of one checkpoint. A study without the section `serve` asks for none.
# The cells' records lie beside the declared one and are not declared: Snakemake would remove them before it starts a
# killed rule again, and the script goes on with the cells that are left.
rule benchmark_serving:
    input:
        checkpoint=evaluated_manifest,
        data=LAYOUT.data("test"),
    output:
        record=LAYOUT.record("benchmark_serving", "{variant}.{scheme}"),
    log:
        LAYOUT.log("benchmark_serving", "{variant}.{scheme}"),
    benchmark:
        LAYOUT.benchmark("benchmark_serving", "{variant}.{scheme}")
    conda:
        "../../envs/core.yaml"
    threads: workflow_help.needs(STUDY, "serve").threads
    resources:
        gpu=workflow_help.needs(STUDY, "serve").gpus,
        mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "serve").mem_mb),
        runtime=workflow_help.growing(workflow_help.needs(STUDY, "serve").runtime_min),
    params:
        python=lambda wildcards: workflow_help.leased(STUDY, "serve", wildcards.scheme),
        environment=lambda wildcards: workflow_help.environment_of(
            STUDY, "serve", wildcards.scheme
        ),
        script=SCRIPTS / "benchmark_serving.py",
        settings=STUDY.settings_sha256("benchmark_serving"),
        cells=lambda wildcards: workflow_help.part_names(
            STUDY, "benchmark_serving", f"{wildcards.variant}.{wildcards.scheme}"
        ),
    shell:
        workflow_help.with_interpreter(
            "{params.python} {params.script} "
            "--variant {wildcards.variant} --scheme {wildcards.scheme} --checkpoint {input.checkpoint} "
            "--data {input.data} --record {output.record} "
            "> {log} 2>&1"
        )
