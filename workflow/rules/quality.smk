# Quality beyond GSM8K. A study without the sections `perplexity` and `tasks` asks for neither.
localrules:
    fetch_corpus,
    fetch_tasks,


# What these need of the hub, for machines without internet: targets of `fetch` alone. Where the files are not there, a
# job asks the hub itself.
rule fetch_corpus:
    output:
        corpus=LAYOUT.data("corpus"),
    log:
        LAYOUT.log("fetch_corpus", "corpus"),
    conda:
        "../../envs/core.yaml"
    params:
        python=workflow_help.interpreter(STUDY, "light"),
        script=SCRIPTS / "fetch_corpus.py",
        settings=STUDY.settings_sha256("evaluate_perplexity"),
    shell:
        "{params.python} {params.script} --out {output.corpus} > {log} 2>&1"


rule fetch_tasks:
    output:
        workflow_help.kept_tasks(LAYOUT),
    log:
        LAYOUT.log("fetch_tasks", "tasks"),
    conda:
        "../../envs/lm-eval.yaml"
    params:
        python=workflow_help.interpreter(STUDY, "tasks"),
        environment=workflow_help.environment_of(STUDY, "tasks"),
        script=SCRIPTS / "fetch_tasks.py",
        settings=STUDY.settings_sha256("evaluate_tasks"),
    shell:
        workflow_help.with_interpreter("{params.python} {params.script} > {log} 2>&1")


# Sliding-window perplexity of one cell.
rule evaluate_perplexity:
    input:
        checkpoint=evaluated_manifest,
        corpus=workflow_help.corpus(STUDY, LAYOUT),
    output:
        record=LAYOUT.record("evaluate_perplexity", "{variant}.{scheme}"),
    log:
        LAYOUT.log("evaluate_perplexity", "{variant}.{scheme}"),
    benchmark:
        LAYOUT.benchmark("evaluate_perplexity", "{variant}.{scheme}")
    conda:
        "../../envs/core.yaml"
    threads: workflow_help.needs(STUDY, "perplexity").threads
    resources:
        gpu=workflow_help.needs(STUDY, "perplexity").gpus,
        mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "perplexity").mem_mb),
        runtime=workflow_help.growing(
            workflow_help.needs(STUDY, "perplexity").runtime_min
        ),
    params:
        python=lambda wildcards: workflow_help.leased(
            STUDY, "perplexity", wildcards.scheme
        ),
        environment=lambda wildcards: workflow_help.environment_of(
            STUDY, "perplexity", wildcards.scheme
        ),
        script=SCRIPTS / "evaluate_perplexity.py",
        settings=STUDY.settings_sha256("evaluate_perplexity"),
    shell:
        workflow_help.with_interpreter(
            "{params.python} {params.script} "
            "--variant {wildcards.variant} --scheme {wildcards.scheme} --checkpoint {input.checkpoint} "
            "--record {output.record} "
            "> {log} 2>&1"
        )


# Tasks of lm-eval on one cell, in an environment of its own.
rule evaluate_tasks:
    input:
        checkpoint=evaluated_manifest,
    output:
        record=LAYOUT.record("evaluate_tasks", "{variant}.{scheme}"),
    log:
        LAYOUT.log("evaluate_tasks", "{variant}.{scheme}"),
    benchmark:
        LAYOUT.benchmark("evaluate_tasks", "{variant}.{scheme}")
    conda:
        "../../envs/lm-eval.yaml"
    threads: workflow_help.needs(STUDY, "tasks").threads
    resources:
        gpu=workflow_help.needs(STUDY, "tasks").gpus,
        mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "tasks").mem_mb),
        runtime=workflow_help.growing(workflow_help.needs(STUDY, "tasks").runtime_min),
    params:
        python=workflow_help.leased(STUDY, "tasks"),
        environment=workflow_help.environment_of(STUDY, "tasks"),
        script=SCRIPTS / "evaluate_tasks.py",
        settings=STUDY.settings_sha256("evaluate_tasks"),
    shell:
        workflow_help.with_interpreter(
            "{params.python} {params.script} "
            "--variant {wildcards.variant} --scheme {wildcards.scheme} --checkpoint {input.checkpoint} "
            "--record {output.record} "
            "> {log} 2>&1"
        )
