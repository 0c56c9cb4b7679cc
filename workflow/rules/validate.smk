# The expectations on all records. Findings are a table like any other: writing it does not fail, so that the report
# can show them. The rule `check` comes last and fails the run on errors, when tables, figures and report are there.
localrules:
    validate,
    check,


rule validate:
    input:
        workflow_help.records(STUDY, LAYOUT),
    output:
        findings=LAYOUT.tables / "validation.csv",
    log:
        LAYOUT.log("validate", "validation"),
    benchmark:
        LAYOUT.benchmark("validate", "validation")
    conda:
        "../../envs/core.yaml"
    threads: workflow_help.needs(STUDY, "light").threads
    resources:
        gpu=workflow_help.needs(STUDY, "light").gpus,
        mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "light").mem_mb),
        runtime=workflow_help.growing(workflow_help.needs(STUDY, "light").runtime_min),
    params:
        python=workflow_help.interpreter(STUDY, "light"),
        script=SCRIPTS / "validate.py",
        settings=STUDY.settings_sha256("validate"),
    shell:
        "{params.python} {params.script} --report-only "
        "--out {output.findings} "
        "> {log} 2>&1"


# The end of a run: it fails on errors among the findings, after everything else was made, and says so on the screen.
rule check:
    input:
        products=workflow_help.products(STUDY, LAYOUT),
        findings=LAYOUT.tables / "validation.csv",
    output:
        passed=LAYOUT.tables / "checked.json",
    log:
        LAYOUT.log("check", "findings"),
    benchmark:
        LAYOUT.benchmark("check", "findings")
    retries: 0  # the same records say the same again
    conda:
        "../../envs/core.yaml"
    threads: workflow_help.needs(STUDY, "light").threads
    resources:
        gpu=workflow_help.needs(STUDY, "light").gpus,
        mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "light").mem_mb),
        runtime=workflow_help.growing(workflow_help.needs(STUDY, "light").runtime_min),
    params:
        python=workflow_help.interpreter(STUDY, "light"),
        script=SCRIPTS / "validate.py",
        settings=STUDY.settings_sha256("validate"),
    shell:
        "{params.python} {params.script} "
        "--findings {input.findings} --passed {output.passed} "
        "2>&1 | tee {log} >&2"
