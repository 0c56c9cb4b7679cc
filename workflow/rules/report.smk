# Every table from the records.
rule make_tables:
    input:
        workflow_help.records(STUDY, LAYOUT),
    output:
        summary=LAYOUT.tables / "summary.md",
    log:
        LAYOUT.log("make_tables", "tables"),
    benchmark:
        LAYOUT.benchmark("make_tables", "tables")
    conda:
        "../../envs/core.yaml"
    threads: workflow_help.needs(STUDY, "light").threads
    resources:
        gpu=workflow_help.needs(STUDY, "light").gpus,
        mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "light").mem_mb),
        runtime=workflow_help.growing(workflow_help.needs(STUDY, "light").runtime_min),
    params:
        python=workflow_help.interpreter(STUDY, "light"),
        script=SCRIPTS / "make_tables.py",
        settings=STUDY.settings_sha256("make_tables"),
    shell:
        "{params.python} {params.script} "
        "--out $(dirname {output.summary}) "
        "> {log} 2>&1"


# Every figure from the records.
rule make_figures:
    input:
        workflow_help.records(STUDY, LAYOUT),
    output:
        index=LAYOUT.figures / "index.json",
    log:
        LAYOUT.log("make_figures", "figures"),
    benchmark:
        LAYOUT.benchmark("make_figures", "figures")
    conda:
        "../../envs/core.yaml"
    threads: workflow_help.needs(STUDY, "light").threads
    resources:
        gpu=workflow_help.needs(STUDY, "light").gpus,
        mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "light").mem_mb),
        runtime=workflow_help.growing(workflow_help.needs(STUDY, "light").runtime_min),
    params:
        python=workflow_help.interpreter(STUDY, "light"),
        script=SCRIPTS / "make_figures.py",
        settings=STUDY.settings_sha256("make_figures"),
    shell:
        "{params.python} {params.script} "
        "--out $(dirname {output.index}) "
        "> {log} 2>&1"
