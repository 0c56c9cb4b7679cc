# Tables, figures and the report, all from records.
from gainwatt.report.settings import settings_sha256


report: "../report/workflow.rst"


# Seconds each, without torch: not worth a place in a cluster's queue.
localrules:
    make_tables,
    make_figures,
    make_report,


# Every table from the records.
rule make_tables:
    input:
        workflow_help.records(STUDY, LAYOUT),
    output:
        summary=LAYOUT.tables / "summary.md",
        matrix=report(
            LAYOUT.tables / "accuracy_matrix.csv",
            caption="../report/accuracy_matrix.rst",
            category="Tables",
        ),
        survival=report(
            LAYOUT.tables / "gain_survival.csv",
            caption="../report/gain_survival.rst",
            category="Tables",
        ),
        gains=report(
            LAYOUT.tables / "gains.csv",
            caption="../report/gains.rst",
            category="Tables",
        ),
        quantized=report(
            LAYOUT.tables / "paired_quant_effect.csv",
            caption="../report/paired_quant_effect.rst",
            category="Tables",
        ),
        cost=report(
            LAYOUT.tables / "cost_per_correct.csv",
            caption="../report/cost_per_correct.rst",
            category="Tables",
        ),
        energy=report(
            LAYOUT.tables / "energy_by_job.csv",
            caption="../report/energy_by_job.rst",
            category="Tables",
        ),
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


# The page for people, from tables, figures and findings.
rule make_report:
    input:
        tables=LAYOUT.tables / "summary.md",
        figures=LAYOUT.figures / "index.json",
        findings=LAYOUT.tables / "validation.csv",
    output:
        page=report(
            LAYOUT.results / "report.html",
            caption="../report/report.rst",
            category="Report",
        ),
        changes=report(
            LAYOUT.results / "items.html",
            caption="../report/items.rst",
            category="Report",
        ),
    log:
        LAYOUT.log("make_report", "report"),
    benchmark:
        LAYOUT.benchmark("make_report", "report")
    conda:
        "../../envs/core.yaml"
    threads: workflow_help.needs(STUDY, "light").threads
    resources:
        gpu=workflow_help.needs(STUDY, "light").gpus,
        mem_mb=workflow_help.growing(workflow_help.needs(STUDY, "light").mem_mb),
        runtime=workflow_help.growing(workflow_help.needs(STUDY, "light").runtime_min),
    params:
        python=workflow_help.interpreter(STUDY, "light"),
        script=SCRIPTS / "make_report.py",
        settings=settings_sha256(STUDY),
    shell:
        "{params.python} {params.script} " "--out {output.page} " "> {log} 2>&1"
