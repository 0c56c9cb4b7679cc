# The study, its layout, and the helpers that the rules share. Nothing heavy is imported here.
import sys
from os.path import relpath
from pathlib import Path

ROOT = Path(workflow.basedir)
if str(ROOT / "src") not in sys.path:
    sys.path.insert(0, str(ROOT / "src"))

from gainwatt import workflow as workflow_help
from gainwatt.errors import GainwattError
from gainwatt.study import (
    Layout,
    quantized_schemes,
    schemes,
    trained_variants,
    variants,
)

try:
    STUDY = workflow_help.study_from_config(config, ROOT)
except GainwattError as error:
    raise WorkflowError(str(error)) from None

LAYOUT = Layout.of(STUDY)
SCRIPTS = Path(relpath(ROOT / "scripts"))


def dense_manifest(wildcards):
    """The unquantized checkpoint of the variant in the wildcards."""
    return LAYOUT.manifest(wildcards.variant)


def evaluated_manifest(wildcards):
    """The checkpoint that a cell of the matrix loads."""
    return LAYOUT.manifest(wildcards.variant, wildcards.scheme)


wildcard_constraints:
    variant="|".join(variants(STUDY)),
    trained="|".join(trained_variants(STUDY)),
    scheme="|".join(schemes(STUDY)),
    quantized="|".join(quantized_schemes(STUDY)) or "none",
