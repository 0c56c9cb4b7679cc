# Does the accuracy gained by RL post-training survive 4-bit quantization, and what does each correct answer cost?
#
#   snakemake --cores 2 --config study=config/demo.yaml
#
# Targets: all (default), fetch, and from the records that are there, without measuring: tables, figures.
from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/common.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/quantize.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/quality.smk"
include: "workflow/rules/profile.smk"
include: "workflow/rules/serve.smk"
include: "workflow/rules/diagnose.smk"
include: "workflow/rules/heads.smk"
include: "workflow/rules/profile_training.smk"
include: "workflow/rules/llamacpp.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/cached.smk"
include: "workflow/rules/validate.smk"


rule all:
    default_target: True
    input:
        # Named here as well, so that a record that was removed is made again although its tables are there.
        workflow_help.every_record(STUDY, LAYOUT),
        workflow_help.products(STUDY, LAYOUT),
        LAYOUT.tables / "checked.json",


rule fetch:
    input:
        workflow_help.fetched(STUDY, LAYOUT),
