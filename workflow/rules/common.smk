# The study, its layout, and the helpers that the rules share. Nothing heavy is imported here.
import sys
from os.path import relpath
from pathlib import Path

ROOT = Path(workflow.basedir)
if str(ROOT / "src") not in sys.path:
    sys.path.insert(0, str(ROOT / "src"))

from gainwatt import workflow as workflow_help
from gainwatt.cluster import lasting
from gainwatt.errors import GainwattError
from gainwatt.study import (
    Layout,
    quantized_schemes,
    schemes,
    variants,
)
from gainwatt.weights.variants import (
    control_variants,
    diagnosed_variants,
    matched_variant,
)

try:
    STUDY = workflow_help.study_from_config(config, ROOT)
except GainwattError as error:
    raise WorkflowError(str(error)) from None

if workflow_help.lacking(STUDY):
    logger.warning(f"warning: {workflow_help.lacking(STUDY)}")

lasting.install(STUDY.study)
LAYOUT = Layout.of(STUDY)
SCRIPTS = Path(relpath(ROOT / "scripts"))


def dense_manifest(wildcards):
    """The unquantized checkpoint of the variant in the wildcards."""
    return LAYOUT.manifest(wildcards.variant)


def evaluated_manifest(wildcards):
    """The checkpoint that a cell of the matrix loads."""
    return LAYOUT.manifest(wildcards.variant, wildcards.scheme)


def diagnosis_inputs(wildcards):
    """Quantized checkpoints and text that a diagnosis looks at beside the variant and its base."""
    options = workflow_help.diagnosis_options(STUDY, LAYOUT, wildcards.variant)
    return [value.rpartition("=")[2] for values in options.values() for value in values]


def diagnosis_options(wildcards):
    """The same as options of the script."""
    options = workflow_help.diagnosis_options(STUDY, LAYOUT, wildcards.variant)
    return [
        word
        for name, values in options.items()
        for value in values
        for word in (name, value)
    ]


wildcard_constraints:
    variant="|".join(dict.fromkeys([*variants(STUDY), *diagnosed_variants(STUDY)])),
    control="|".join(control_variants(STUDY)) or "none",
    trained="|".join(variants(STUDY)[1:]) or "none",
    scheme="|".join(schemes(STUDY)),
    quantized="|".join(quantized_schemes(STUDY)) or "none",
