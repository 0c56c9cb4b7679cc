# Tables and figures from the records that are there. These rules have no input: neither an absent checkpoint nor a file
# time that git chose can start a measurement. `all` makes them from a finished study instead.


localrules:
    tables,
    figures,


rule tables:
    log:
        LAYOUT.log("make_tables", "cached"),
    conda:
        "../../envs/core.yaml"
    params:
        python=workflow_help.interpreter(STUDY, "light"),
        script=SCRIPTS / "make_tables.py",
    shell:
        "{params.python} {params.script} 2>&1 | tee {log} >&2"


rule figures:
    log:
        LAYOUT.log("make_figures", "cached"),
    conda:
        "../../envs/core.yaml"
    params:
        python=workflow_help.interpreter(STUDY, "light"),
        script=SCRIPTS / "make_figures.py",
    shell:
        "{params.python} {params.script} 2>&1 | tee {log} >&2"
