# Attention heads. A study without the section `heads` asks for neither rule, one without `heads.prune` not for the second.


# Scores of every head of one cell.
rule score_heads:
    input:
        checkpoint=evaluated_manifest,
        base=LAYOUT.manifest("base"),
        prompts=workflow_help.head_prompts(STUDY, LAYOUT),
    output:
        record=report(
            LAYOUT.record("score_heads", "{variant}.{scheme}"),
            caption="../report/heads.rst",
            category="Attention heads",
        ),
    log:
        LAYOUT.log("score_heads", "{variant}.{scheme}"),
    benchmark:
        LAYOUT.benchmark("score_heads", "{variant}.{scheme}")
    conda:
        "../../envs/core.yaml"
    threads: workflow_help.needs(STUDY, "heads").threads
    resources:
        gpu=workflow_help.needs(STUDY, "heads").gpus,
        mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "heads").mem_mb),
        runtime=workflow_help.growing(workflow_help.needs(STUDY, "heads").runtime_min),
    params:
        python=lambda wildcards: workflow_help.leased(STUDY, "heads", wildcards.scheme),
        environment=lambda wildcards: workflow_help.environment_of(
            STUDY, "heads", wildcards.scheme
        ),
        script=SCRIPTS / "score_heads.py",
        settings=STUDY.settings_sha256("score_heads"),
    shell:
        workflow_help.with_interpreter(
            "{params.python} {params.script} "
            "--variant {wildcards.variant} --scheme {wildcards.scheme} --checkpoint {input.checkpoint} "
            "--base {input.base} --record {output.record} "
            "> {log} 2>&1"
        )


# What switching heads off costs. Finished points outlive a kill in the scratch folder.
rule prune_heads:
    input:
        checkpoint=evaluated_manifest,
        scores=LAYOUT.record("score_heads", "{variant}.{scheme}"),
        data=LAYOUT.data("test"),
        corpus=workflow_help.head_corpus(STUDY, LAYOUT),
    output:
        record=LAYOUT.record("prune_heads", "{variant}.{scheme}"),
    log:
        LAYOUT.log("prune_heads", "{variant}.{scheme}"),
    benchmark:
        LAYOUT.benchmark("prune_heads", "{variant}.{scheme}")
    conda:
        "../../envs/core.yaml"
    threads: workflow_help.needs(STUDY, "heads").threads
    resources:
        gpu=workflow_help.needs(STUDY, "heads").gpus,
        mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "heads").mem_mb),
        runtime=workflow_help.growing(workflow_help.needs(STUDY, "heads").runtime_min),
    params:
        python=workflow_help.leased(STUDY, "heads"),
        script=SCRIPTS / "prune_heads.py",
        settings=STUDY.settings_sha256("prune_heads"),
    shell:
        "{params.python} {params.script} "
        "--variant {wildcards.variant} --scheme {wildcards.scheme} --checkpoint {input.checkpoint} "
        "--scores {input.scores} --data {input.data} --record {output.record} "
        "> {log} 2>&1"
