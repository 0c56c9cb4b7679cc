# Speed, memory and energy of generation. A study without the section `profile` asks for no group.
from gainwatt.profiling import rule as profile_rule


# One group: the baseline and the arms measured beside it, interleaved, in one process.
rule profile_inference:
    input:
        checkpoints=lambda wildcards: profile_rule.manifests(
            STUDY, LAYOUT, wildcards.group
        ),
    output:
        record=LAYOUT.record("profile_inference", "{group}"),
    log:
        LAYOUT.log("profile_inference", "{group}"),
    benchmark:
        LAYOUT.benchmark("profile_inference", "{group}")
    wildcard_constraints:
        group=profile_rule.group_pattern(STUDY),
    conda:
        "../../envs/core.yaml"
    threads: workflow_help.needs(STUDY, "profile").threads
    resources:
        gpu=workflow_help.needs(STUDY, "profile").gpus,
        mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "profile").mem_mb),
        runtime=workflow_help.growing(workflow_help.needs(STUDY, "profile").runtime_min),
    params:
        python=lambda wildcards: profile_rule.python(STUDY, wildcards.group),
        environment=lambda wildcards: profile_rule.environment(STUDY, wildcards.group),
        script=SCRIPTS / "profile_inference.py",
        settings=STUDY.settings_sha256("profile_inference"),
    shell:
        workflow_help.with_interpreter(
            "{params.python} {params.script} "
            "--group '{wildcards.group}' --records $(dirname {output.record}) "
            "> {log} 2>&1"
        )
