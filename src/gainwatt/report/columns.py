"""What a column of a table is called for a reader, in which unit, and what it means.

A column that is not listed here gets its label and unit from its name: units end a name.
"""

from __future__ import annotations

from dataclasses import dataclass

from gainwatt.report.formats import KINDS


@dataclass(frozen=True)
class Column:
    """One column: its key in the table, label, kind (see formats.KINDS), unit, help, and the key of an upper end."""

    key: str
    label: str
    kind: str = "number"
    unit: str = ""
    help: str = ""
    high: str = ""

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers."""
        return KINDS[self.kind][1]

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key of the table that the column shows."""
        return (self.key, self.high) if self.high else (self.key,)


def _c(key: str, label: str, kind: str = "number", unit: str | None = None, text: str = "", high: str = "") -> Column:
    return Column(key, label, kind, KINDS[kind][0] if unit is None else unit, text, high)


_KNOWN = (
    _c("variant", "variant", "code", text="base, or the model trained with this seed"),
    _c("precision", "scheme", "code"),
    _c("scheme", "scheme", "code"),
    _c("quant_precision", "scheme", "code"),
    _c("label", "cell", "code"),
    _c("cell", "cell", "code"),
    _c("stage", "stage", "code"),
    _c("checkpoint", "checkpoint", "code"),
    _c("module_name", "module", "code"),
    _c("from", "from", "code"),
    _c("to", "to", "code"),
    _c("variants", "variants", "code"),
    _c("status", "status", "status"),
    _c("verdict", "verdict", "verdict"),
    _c("severity", "severity", "severity"),
    _c("check", "expectation", "code"),
    _c("file", "file", "code"),
    _c("what", "what was found", "long"),
    _c("hint", "what to do", "long"),
    _c("why", "why", "note"),
    _c("reason", "reason", "note"),
    _c("null_reason", "why null", "note"),
    _c("question", "question", "long"),
    _c("model", "checkpoint", "hash", text="SHA-256 of the checkpoint that was loaded"),
    _c("predictions_path", "items file", "code"),
    _c("accuracy", "accuracy", "share"),
    _c("accuracy_low", "interval", "share", text="Wilson interval", high="accuracy_high"),
    _c("accuracy_stderr", "standard error", "share"),
    _c("num_examples", "items", "count"),
    _c("correct", "correct", "count"),
    _c("items", "items", "count"),
    _c("n", "items", "count"),
    _c("improved", "improved", "count", text="wrong before, right after"),
    _c("worsened", "worsened", "count", text="right before, wrong after"),
    _c("unchanged", "unchanged", "count"),
    _c("difference", "difference", "points"),
    _c("difference_low", "interval", "points", text="paired bootstrap interval", high="difference_high"),
    _c("mcnemar_p", "p (McNemar)", "p", text="exact McNemar test on the items that changed"),
    _c("mcnemar_p_holm", "p (Holm)", "p", text="corrected for all rows of this table by Holm's method"),
    _c("p_value", "p", "p"),
    _c("p_value_holm", "p (Holm)", "p", text="corrected for all rows of this table by Holm's method"),
    _c("p_method", "test", "text"),
    _c("training_seeds", "training seeds", "count"),
    _c("delta_reference", "gain, reference", "points", text="trained minus base at the reference scheme"),
    _c("delta_quantized", "gain, quantized", "points", text="trained minus base under the scheme"),
    _c("gain_survival", "survival", "points", text="gain under the scheme minus gain at the reference"),
    _c("gain_survival_low", "interval", "points", high="gain_survival_high"),
    _c("stderr_items", "standard error of items", "share", "points"),
    _c("stderr_training_seeds", "standard error of seeds", "share", "points"),
    _c("margin", "margin", "share", "points", "declared in the study before the first measurement"),
    _c("items_needed_within_margin", "items needed", "count", text="items that would settle whether the gain survives"),
    _c("parse_rate", "a number was found", "share"),
    _c("format_compliance_rate", "ended as asked (#### n)", "share"),
    _c("hit_max_new_tokens_rate", "cut by the token limit", "share"),
    _c("ended_with_eos_rate", "ended by itself", "share"),
    _c("prompt_leak_rate", "went on to a new question", "share"),
    _c("completion_tokens_mean", "mean length", "number", "tokens"),
    _c("completion_chars_mean", "mean length", "number", "characters"),
    _c("reference_nll_per_token", "loss on the reference solutions", "number", "nats/token"),
    _c("reference_ppl", "perplexity of the reference solutions"),
    _c("reference_ppl_token_count", "reference tokens", "count"),
    _c("accuracy_strict_match", "lm-eval strict-match", "share"),
    _c("accuracy_flexible_extract", "lm-eval flexible-extract", "share"),
    _c("branch_answer_tag_rate", "read from an answer tag", "share"),
    _c("branch_hash_rate", "read after ####", "share"),
    _c("branch_phrase_rate", "read from a phrase", "share"),
    _c("branch_last_number_rate", "read as the last number", "share"),
    _c("branch_none_rate", "no number", "share"),
    _c("s_per_correct", "time", "number", "s"),
    _c("tokens_per_correct", "tokens", "number", "tokens"),
    _c("gross_j_per_correct", "gross energy", "number", "J"),
    _c("net_j_per_correct", "net energy", "number", "J", "gross minus idle power times seconds"),
    _c("electricity_usd_per_correct", "electricity", "usd1000"),
    _c("machine_usd_per_correct", "machine rent", "usd1000"),
    _c("throughput_tok_s", "throughput", "number", "tokens/s"),
    _c("gross_j", "gross energy", "number", "J"),
    _c("net_j", "net energy", "number", "J", "gross minus idle power times seconds"),
    _c("seconds", "time", "number", "s"),
    _c("boundary", "boundary", "text", text="what the meter saw: the GPU board, the CPU package, main memory"),
    _c("method", "method", "text", text="counter: the board's energy counter; integral: power over time"),
    _c("flags", "flags", "text", text="what is to be known about the number; each is explained above"),
    _c("reward_first", "reward, first step"),
    _c("reward_last", "reward, last step"),
    _c("frac_reward_zero_std_mean", "groups without signal", "share", text="all completions got the same reward"),
    _c("clipped_ratio_mean", "rollouts cut by the limit", "share"),
    _c("gross_j_per_step", "energy of a step", "number", "J"),
    _c("rollout_energy_frac", "of it rollouts", "share"),
    _c("step_s_mean", "time of a step", "number", "s"),
    _c("weights_changed_frac", "stored weights changed", "share"),
    _c("relative_update_norm", "update / weights (norms)"),
    _c("compression_ratio", "smaller by", "number", "×"),
    _c("weights_before_bytes", "weights before", "bytes"),
    _c("weights_after_bytes", "weights after", "bytes"),
    _c("kurtosis_weighted", "kurtosis"),
    _c("quantity", "of", "quantity", text="what the training cost and a correct answer costs"),
    _c("training", "cost of the training"),
    _c("per_correct_base", "per correct answer, base"),
    _c("per_correct_trained", "per correct answer, trained"),
    _c("payback_correct_answers", "pays back after", "count", "correct answers"),
    _c("payback_low", "interval", "count", "correct answers", high="payback_high"),
    _c("search_error_initial_mean", "AWQ error, before"),
    _c("search_error_best_mean", "AWQ error, after"),
    _c("loaded_by", "loaded by", "code"),
    _c("task", "task", "code"),
    _c("metric", "metric", "code"),
    _c("filter", "filter", "code"),
    _c("value", "value"),
    _c("value_low", "interval", high="value_high"),
    _c("minus_reference", "against reference"),
    _c("minus_reference_low", "interval", high="minus_reference_high"),
    _c("minus_base", "against base"),
    _c("minus_base_low", "interval", high="minus_base_high"),
    _c("mcnemar_p_holm_reference", "p, reference (Holm)", "p"),
    _c("mcnemar_p_holm_base", "p, base (Holm)", "p"),
    _c("perplexity", "perplexity"),
    _c("perplexity_low", "interval", high="perplexity_high"),
    _c("nll_minus_reference", "against reference", "number", "nats/token"),
    _c("nll_minus_reference_low", "interval", "number", "nats/token", high="nll_minus_reference_high"),
    _c("nll_minus_base", "against base", "number", "nats/token"),
    _c("nll_minus_base_low", "interval", "number", "nats/token", high="nll_minus_base_high"),
    _c("tokens_scored", "tokens", "count"),
    _c("corpus", "corpus", "code"),
    _c("relative_mse", "relative squared error"),
    _c("snr_db", "signal to noise", "number", "dB"),
    _c("error_over_base", "over that of the base", "number", "×"),
    _c("logit_kl_nats", "KL of the next token", "number", "nats"),
    _c("top1_agreement", "same next token", "share"),
    _c("final_state_relative_error", "error of the last state"),
    _c("layer_output_relative_error_mean", "error of the layers' outputs"),
    _c("change", "change", "text"),
    _c("code_flip_frac", "codes flipped", "share"),
    _c("flips_over_random", "times random", "number", "×"),
    _c("update_rms_over_step", "update / step of the grid"),
    _c("quantized_change_ratio", "kept size of the change", "number", "×"),
    _c("quantized_change_cosine", "cosine with the change"),
    _c("steps_ok", "steps", "count", text="measured steps that went well"),
    _c("oom_count", "out of memory", "count", text="measured steps that ran out of memory"),
    _c("rollout_s_mean", "rollout", "number", "s", "all rollouts of a step, which are generated together"),
    _c("rollout_s_mean_low", "interval", "number", "s", high="rollout_s_mean_high"),
    _c("rollout_s_p95", "rollout, p95", "number", "s"),
    _c("update_s_mean", "forward and backward", "number", "s"),
    _c("peak_allocated_step_mib", "peak on the GPU", "number", "MiB"),
    _c("peak_rss_step_mib", "peak in main memory", "number", "MiB"),
    _c("gross_j_per_rollout", "energy of a rollout", "number", "J"),
    _c("gross_j_per_rollout_low", "interval", "number", "J", high="gross_j_per_rollout_high"),
    _c("net_j_per_rollout", "net", "number", "J"),
    _c("gross_j_per_step_low", "interval", "number", "J", high="gross_j_per_step_high"),
    _c("net_j_per_step", "net", "number", "J"),
    _c("long_tail_rate", "long tail", "share", text="rollouts above the threshold, counted to the first end token"),
    _c("long_tail_low_rate", "interval", "share", high="long_tail_high_rate"),
    _c("idle_slot_rate", "idle slots", "share", text="slots x steps in which an ended completion waits for others"),
    _c("ratio", "ratio", "number", "×"),
    _c("ratio_low", "interval", "number", "×", high="ratio_high"),
    _c("baseline", "against", "code"),
    _c("measured_low", "interval", high="measured_high"),
    _c("note", "note", "note"),
    _c("setting", "setting", "code"),
    _c("recorded", "in the record", "code"),
    _c("wanted", "in the study", "code"),
    _c("kernel", "kernel asked for", "code", text="empty: the engine's own choice"),
    _c("lengths", "lengths", "code", text="natural: questions and answers as they are; fixed: all alike"),
    _c("load", "load", "code", text="b: batch size; c: clients; r: arrivals per second"),
    _c("throughput_tok_s_low", "interval", "number", "tokens/s", high="throughput_tok_s_high"),
    _c("gross_j_per_token", "energy", "number", "J/token"),
    _c("net_j_per_token", "net energy", "number", "J/token", text="above the board at rest"),
    _c("gross_j_per_good_request", "energy of a request within the service level", "number", "J"),
    _c("decode_tok_s", "decode", "number", "tokens/s"),
    _c("decode_roof_share", "of its roof", "share"),
    _c("prefill_roof_share", "prefill of its roof", "share"),
    _c("decode_bound", "bound by", "code", text="launch: the device waits for its host"),
    _c("slo_met_share", "within the service level", "share"),
    _c("goodput_requests_per_s", "goodput", "number", "requests/s"),
    _c("capacity_requests_per_s", "largest rate carried", "number", "requests/s"),
    _c("missed_requests_per_s", "smallest rate missed", "number", "requests/s"),
    _c("max_concurrency", "requests that fit", text="of the longest length, into the cache of keys and values"),
    _c("quantization_kernel", "kernel", "code"),
    _c("over_reference", "speed over the reference", "number", "×"),
    _c("over_own_choice", "over the own choice", "number", "×"),
    _c("path", "record", "code"),
)
KNOWN = {column.key: column for column in _KNOWN}

_SUFFIXES = (
    ("_sha256", "hash", ""),
    ("_tok_s", "number", "tokens/s"),
    ("_tokens_per_s", "number", "tokens/s"),
    ("_j_per_ktok", "number", "J per 1,000 tokens"),
    ("_per_min", "number", "1/min"),
    ("_bytes", "bytes", "MB"),
    ("_rate", "share", "%"),
    ("_frac", "share", "%"),
    ("_share", "share", "%"),
    ("_tokens", "count", ""),
    ("_mib", "number", "MiB"),
    ("_gib", "number", "GiB"),
    ("_usd", "usd", "$"),
    ("_ms", "number", "ms"),
    ("_db", "number", "dB"),
    ("_hz", "number", "Hz"),
    ("_j", "number", "J"),
    ("_w", "number", "W"),
    ("_s", "number", "s"),
    ("_p", "p", ""),
)


def column_of(key: str, *, numeric: bool = True) -> Column:
    """The column for `key`: the known one, or one made of its name; `numeric` says whether all values are numbers."""
    if key in KNOWN:
        return KNOWN[key]
    if not numeric:
        return Column(key, key.replace("_", " "), "hash" if key.endswith("_sha256") else "text")
    for suffix, kind, unit in _SUFFIXES:
        if key.endswith(suffix) and len(key) > len(suffix):
            return Column(key, key.removesuffix(suffix).replace("_", " "), kind, unit)
    for part, kind, unit in (("_frac_", "share", "%"), ("_rate_", "share", "%"), ("_db_", "number", "dB")):
        if part in key:
            return Column(key, key.replace(part, " ").replace("_", " "), kind, unit)
    return Column(key, key.replace("_", " "), "number")
