"""Words for the figures of the weight diagnoses: caption, and a text for those who do not see them."""

from __future__ import annotations

from collections.abc import Callable

from gainwatt.figures import codes, outliers, weights
from gainwatt.tables.results import Results
from gainwatt.weights.variants import matched_variant

Text = dict[str, str]
_MIB = 2**20


def _layer_errors(results: Results) -> Text:
    base, trained = weights.shown(results)
    worst = max(
        (error, scheme, module, layer)
        for module, series in base.items()
        for scheme, points in series.items()
        for layer, error in points
    )
    named = sorted({scheme for series in base.values() for scheme in series})
    rings = f" Rings: {matched_variant(results.study)}; a ring on its line is the same error." if trained else ""
    return {
        "title": "Weight error by layer and kind of module",
        "caption": "Squared error that quantization leaves in each matrix, in per cent of the matrix's own sum of "
        "squares, by layer. Schemes: from the stored checkpoint that is evaluated, on the scale of the unquantized "
        f"weights; {weights.PROXY}: symmetric rounding to nearest, computed from the unquantized weights.{rings}",
        "alt": f"Line plots of {len(base)} kinds of modules for {', '.join(named)}. Largest error of the base: "
        f"{worst[0]:.3g} % by {worst[1]} in {worst[2]} of layer {worst[3]}.",
    }


def _outlier_maps(results: Results) -> Text:
    said = []
    for variant, what, table in outliers.shown(results):
        (module, layer), value = max(table.items(), key=lambda entry: entry[1])
        said.append(f"{variant}, {what}: at most {value:.3g}, in {module} of layer {layer}")
    inputs = any(what == outliers.INPUTS for _, what, _ in outliers.shown(results))
    text = (
        " Right: the largest input on calibration text over the median channel's largest: what 8-bit activations and "
        "activation-aware scales have to deal with."
        if inputs
        else " Inputs were not looked at (diagnose.outputs)."
    )
    return {
        "title": "Where outliers sit",
        "caption": "Each cell is one matrix. Largest |w| over the median |w|: the larger, the fewer levels are left "
        f"for ordinary weights in an outlier's group.{text} One colour scale for all variants.",
        "alt": f"Maps of layer by kind of module. {'; '.join(said)}.",
    }


def _code_flips(results: Results) -> Text:
    values, _ = codes.shown_flips(results)
    said = "; ".join(f"{scheme}, {change}: {share:.3g} %" for (scheme, change), share in sorted(values.items()))
    return {
        "title": "Codes that a change of the weights flips",
        "caption": "Share of quantized weights whose code differs from the base's: after GRPO, after a supervised "
        "fine-tune whose change has the same norm, and after random noise of that norm in each matrix, stored in the "
        "same type. Schemes without control look at text, or are not among diagnose.schemes; part of an "
        "activation-aware scheme's flips comes from its own search.",
        "alt": f"Bars of flipped codes by scheme. {said}.",
    }


def _scheme_bytes(results: Results) -> Text:
    sizes = codes.shown_bytes(results)
    disk = sizes[codes.ON_DISK]
    said = []
    for scheme in disk:
        parts = ", ".join(f"{values[scheme]:.4g} MiB {what}" for what, values in sizes.items() if scheme in values)
        said.append(f"{scheme}: {parts}")
    later = (
        " Where a scheme has a third bar, its layers are decompressed at the first forward pass, and that is what an "
        "evaluation with this engine holds in memory."
        if codes.IN_USE in sizes
        else ""
    )
    return {
        "title": "Weights by scheme",
        "caption": "Bytes of the base's weights: the checkpoint's files, and parameters with their scales in memory "
        f"once the first engine has loaded them. Embeddings and the output layer stay unquantized.{later}",
        "alt": f"Bars by scheme. {'; '.join(said)}.",
    }


WEIGHT_TEXTS: dict[str, Callable[[Results], Text]] = {
    "layer_errors": _layer_errors,
    "outlier_maps": _outlier_maps,
    "code_flips": _code_flips,
    "scheme_bytes": _scheme_bytes,
}
