# Questions and base model. What may need the internet runs where Snakemake runs: nodes of a cluster often have none.
localrules:
    prepare_data,


SPLITS = ["train", "test"] + (
    ["sft", "validation"] if STUDY.model.source == "embedded" else []
)


# Questions as JSON lines, checked.
rule prepare_data:
    input:
        workflow_help.local_sources(STUDY),
    output:
        splits=[LAYOUT.data(split) for split in SPLITS],
        record=LAYOUT.record("prepare_data", "data"),
    log:
        LAYOUT.log("prepare_data", "data"),
    benchmark:
        LAYOUT.benchmark("prepare_data", "data")
    conda:
        "../../envs/core.yaml"
    threads: workflow_help.needs(STUDY, "light").threads
    resources:
        gpu=workflow_help.needs(STUDY, "light").gpus,
        mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "light").mem_mb),
        runtime=workflow_help.growing(workflow_help.needs(STUDY, "light").runtime_min),
    params:
        python=workflow_help.interpreter(STUDY, "light"),
        script=SCRIPTS / "prepare_data.py",
        settings=STUDY.settings_sha256("prepare_data"),
    shell:
        "{params.python} {params.script} " "--record {output.record} " "> {log} 2>&1"


if workflow_help.base_stage(STUDY) == "warm_start":

    # The small model of the embedded study, trained from scratch on solved problems.
    rule warm_start:
        input:
            data=LAYOUT.data("sft"),
        output:
            manifest=LAYOUT.manifest("base"),
            record=LAYOUT.record("warm_start", "base"),
        log:
            LAYOUT.log("warm_start", "base"),
        benchmark:
            LAYOUT.benchmark("warm_start", "base")
        conda:
            "../../envs/core.yaml"
        threads: workflow_help.needs(STUDY, "prepare").threads
        resources:
            gpu=workflow_help.needs(STUDY, "prepare").gpus,
            mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "prepare").mem_mb),
            runtime=workflow_help.growing(
                workflow_help.needs(STUDY, "prepare").runtime_min
            ),
        params:
            python=workflow_help.leased(STUDY, "prepare"),
            script=SCRIPTS / "warm_start.py",
            settings=STUDY.settings_sha256("warm_start"),
        shell:
            "{params.python} {params.script} "
            "--data {input.data} --manifest {output.manifest} --record {output.record} "
            "> {log} 2>&1"

else:

    localrules:
        fetch_model,

    # The base model from the hub at its pinned revision, or from a local folder.
    rule fetch_model:
        output:
            manifest=LAYOUT.manifest("base"),
            record=LAYOUT.record("fetch_model", "base"),
        log:
            LAYOUT.log("fetch_model", "base"),
        benchmark:
            LAYOUT.benchmark("fetch_model", "base")
        conda:
            "../../envs/core.yaml"
        threads: workflow_help.needs(STUDY, "prepare").threads
        resources:
            gpu=workflow_help.needs(STUDY, "prepare").gpus,
            mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "prepare").mem_mb),
            runtime=workflow_help.growing(
                workflow_help.needs(STUDY, "prepare").runtime_min
            ),
        params:
            python=workflow_help.interpreter(STUDY, "prepare"),
            script=SCRIPTS / "fetch_model.py",
            settings=STUDY.settings_sha256("fetch_model"),
        shell:
            "{params.python} {params.script} "
            "--manifest {output.manifest} --record {output.record} "
            "> {log} 2>&1"
