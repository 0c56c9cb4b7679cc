"""Which table and which figure stands where in the report, and how to read it.

A table or figure that is not listed here is shown too, in the appendix, with labels made of its column names.
"""

from __future__ import annotations

from gainwatt.report import registry_branches
from gainwatt.report.specs import TableSpec

SECTIONS: dict[str, tuple[str, str]] = {
    "matrix": ("Accuracy of every cell", "matrix"),
    "survival": ("Does the gain survive?", "gain survival"),
    "cost": ("Cost per correct answer", "cost"),
    "profile": ("Profile of generation: precision, mode, load", "profile"),
    "serving": ("Serving: speed, latency, energy, memory", "serving"),
    "energy": ("Energy: how measured, what it covers", "energy"),
    "weights": ("Weights and quantization", "weights"),
    "heads": ("Attention heads", "heads"),
    "llamacpp": ("llama.cpp: backends, ablations, types", "llama.cpp"),
    "training": ("Training and how the answers ended", "training, stopping"),
    "environment": ("Machine and software", "environment"),
    "findings": ("Findings of the validator", "findings"),
    "provenance": ("Where every number comes from", "provenance"),
    "settings": ("Settings of the study", "settings"),
    "appendix": ("Other tables and figures", "appendix"),
}
"""Section id -> heading, short name in the contents."""

TABLES: tuple[TableSpec, ...] = (
    TableSpec(
        "accuracy_matrix", "matrix", "Every cell",
        "One row per cell. The Wilson interval covers the noise of the items; it is not the test of a difference, as "
        "all cells answered the same items.",
        ("variant", "precision", "accuracy", "accuracy_low", "correct", "num_examples", "accuracy_strict_match",
         "accuracy_flexible_extract", "status", "reason"),
    ),
    TableSpec(
        "perplexity", "matrix", "Perplexity",
        "Lower is better. Differences are in nats per token over the same windows of the same text.",
        ("variant", "precision", "perplexity", "perplexity_low", "nll_minus_reference", "nll_minus_reference_low",
         "nll_minus_base", "nll_minus_base_low", "tokens_scored", "corpus", "window", "stride", "status", "reason"),
        stages=("evaluate_perplexity",), optional=True,
    ),
    TableSpec(
        "tasks", "matrix", "Other tasks",
        "Tasks that lm-eval ran on the same checkpoints; differences are paired on the same items.",
        ("task", "metric", "filter", "variant", "precision", "items", "value", "value_low", "minus_reference",
         "minus_reference_low", "mcnemar_p_holm_reference", "minus_base", "minus_base_low", "mcnemar_p_holm_base",
         "status", "reason"),
        stages=("evaluate_tasks",), optional=True,
    ),
    TableSpec(
        "gain_survival", "survival", "The gain and its survival in numbers",
        "Survival is the gain under a scheme minus the gain at the reference, on the same items: a difference of two "
        "differences. The first row of a scheme takes all training seeds together, the others take one each.",
        ("scheme", "variants", "delta_reference", "delta_quantized", "gain_survival", "gain_survival_low",
         "verdict", "p_value_holm", "items_needed_within_margin", "why"),
        empty="No scheme has all four cells (base and trained, reference and quantized) yet.",
    ),
    TableSpec(
        "gains", "survival", "What GRPO gained",
        "Each trained variant against the base on the same items, under the same scheme.",
        ("from", "to", "n", "difference", "difference_low", "improved", "worsened", "mcnemar_p_holm"),
        empty="No scheme has both the base and a trained variant yet.",
    ),
    TableSpec(
        "paired_quant_effect", "survival", "What quantization changed",
        "The same variant, quantized against the reference, on the same items.",
        ("from", "to", "n", "difference", "difference_low", "improved", "worsened", "mcnemar_p_holm"),
        empty="No variant has both the reference and a quantized cell yet.",
    ),
    TableSpec(
        "cost_per_correct", "cost", "Cost per correct answer",
        "Seconds, tokens, joules and dollars of the generation phase, divided by the correct answers. A model that "
        "answers more items right gets cheaper without any change in speed.",
        ("variant", "scheme", "correct", "s_per_correct", "s_per_correct_low", "tokens_per_correct",
         "gross_j_per_correct", "gross_j_per_correct_low", "net_j_per_correct",
         "above_loaded_idle_j_per_correct", "electricity_usd_per_correct", "machine_usd_per_correct", "method",
         "flags", "null_reason"),
        empty="No cell has been measured yet.",
    ),
    TableSpec(
        "training_payback", "cost", "When the training has paid back",
        "Correct answers after which what training cost equals what it saves on each of them. Where a trained model's "
        "correct answer costs no less than the base model's, it never does.",
        ("variant", "scheme", "quantity", "training", "per_correct_base", "per_correct_trained",
         "payback_correct_answers", "payback_low", "null_reason"),
        stages=("evaluate_gsm8k", "train_grpo"), optional=True,
    ),
    TableSpec(
        "energy_by_job", "energy", "Energy of every job",
        "Each job as a whole, loading included. Net energy subtracts the idle power before the job times seconds, and "
        "so contains what holding the GPU costs while it waits; the idle power after it tells how much that is.",
        ("stage", "cell", "status", "seconds", "gross_j", "net_j", "idle_before_w", "idle_after_w", "boundary",
         "method", "flags", "null_reason"),
        stages=("*",),
    ),
    TableSpec(
        "weights", "weights", "Weight statistics",
        "Of the unquantized checkpoint of each variant; the errors are those of 4-bit quantization by rounding.",
        stages=("diagnose_weights",), transposed=True,
    ),
    TableSpec(
        "weight_errors", "weights", "Error of the weights and of what they compute",
        "Stored: of the checkpoint that is evaluated; computed: of rounding the unquantized weights alone.",
        ("variant", "scheme", "source", "relative_mse", "snr_db", "error_over_base", "logit_kl_nats",
         "top1_agreement", "final_state_relative_error", "layer_output_relative_error_mean", "null_reason"),
        stages=("diagnose_weights", "quantize"), optional=True,
    ),
    TableSpec(
        "weight_changes", "weights", "What training changed in code space",
        "Share of the 4-bit codes that a change of the weights flips: GRPO, a supervised fine-tune that moved as far, "
        "and random noise of the same size. Near 1 times random, the number of flips tells the size of the step alone.",
        ("scheme", "source", "kind", "change", "relative_update_norm", "code_flip_frac", "flips_over_random",
         "update_rms_over_step", "quantized_change_ratio", "quantized_change_cosine", "null_reason"),
        stages=("diagnose_weights",), optional=True,
    ),
    TableSpec("weight_layers", "weights", "Every matrix", "One row per variant and matrix.",
              stages=("diagnose_weights",), optional=True, folded=True),
    TableSpec(
        "quantization", "weights", "Quantized checkpoints",
        "Bytes before and after, the time that it took, and the error of AWQ's own search before and after it.",
        ("variant", "scheme", "status", "weights_before_bytes", "weights_after_bytes", "compression_ratio",
         "quantize_s", "quantize_gross_j", "relative_mse", "search_error_initial_mean", "search_error_best_mean",
         "loaded_by"),
        stages=("quantize",),
    ),
    TableSpec(
        "training", "training", "Training",
        "One row per training seed. TRL counts completions; prompts seen counts prompts. The first step of a process "
        "finds a cold GPU; the warm time of a step is without it.",
        ("variant", "status", "steps", "reward_first", "reward_last", "frac_reward_zero_std_mean",
         "clipped_ratio_mean", "prompts_seen", "epochs", "step_s_mean", "step_s_warm_mean", "rollouts_per_min",
         "gross_j_per_step", "weights_changed_frac"),
        stages=("train_grpo",), empty="No variant has been trained yet.",
    ),
    TableSpec(
        "accuracy_matrix", "training", "How the answers ended and how they were read",
        "An accuracy says little where many answers were cut by the token limit or hold no number.",
        ("variant", "precision", "ended_with_eos_rate", "hit_max_new_tokens_rate", "parse_rate",
         "format_compliance_rate", "prompt_leak_rate", "branch_hash_rate", "branch_phrase_rate",
         "branch_last_number_rate", "branch_none_rate", "completion_tokens_mean"),
        view="stopping", only=True,
    ),
    *registry_branches.TABLES,
)  # fmt: skip
"""Within a section in this order."""

BRANCH_SECTIONS = {
    key
    for key in SECTIONS
    if (specs := [spec for spec in TABLES if spec.section == key]) and all(spec.optional for spec in specs)
}
"""Sections that are there only where a study asks for one of their branches."""

ELSEWHERE = {"changed_items", "validation", "stale"}
"""Tables that have a place of their own: the page of items, the findings."""

FIGURES: dict[str, tuple[str, str, str]] = {
    "accuracy": ("", "", ""),
    "gain_survival": ("", "", ""),
    "training": ("", "", ""),
    "paired_changes": ("survival", "Improved and worsened items", "Items that quantization answered better and worse."),
    "energy_latency": ("cost", "Energy against latency", "Down and left is better."),
    "power_trace": (
        "energy", "Power over time", "Of the metered job that used most energy; its phases are shaded.",
    ),
    "layer_errors": (
        "weights", "Error of each layer", "4-bit rounding error by layer; solid the base, dotted the trained variant.",
    ),
    "outlier_maps": ("weights", "Outliers by layer and module", ""),
    "code_flips": ("weights", "Codes that training flipped", ""),
    "scheme_bytes": ("weights", "Bytes by scheme", ""),
    **registry_branches.FIGURES,
}  # fmt: skip
"""Figure -> section, title, help; an empty section: the report draws it itself, from the same table."""

_MAPS_OF_COLOUR = {"outlier_maps", "head_map"}
INVERTIBLE = {name for name, (section, _, _) in FIGURES.items() if section} - _MAPS_OF_COLOUR
"""Figures on white that stay true when light and dark are exchanged at night."""
