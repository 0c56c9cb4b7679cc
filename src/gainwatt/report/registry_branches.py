"""Tables and figures of the optional branches: serving, profiles, llama.cpp, attention heads."""

from __future__ import annotations

from gainwatt.report.specs import TableSpec

TABLES: tuple[TableSpec, ...] = (
    TableSpec(
        "profile_claims", "profile", "Published claims on this machine",
        "Each claim as a ratio to the unquantized model (or to batch 1), beside ours with its 95 % interval, the "
        "kernels that ran and what bounds the decoding step: launches, bandwidth or arithmetic.",
        ("claim", "source", "claimed", "arm", "load", "ours", "ours_low", "n", "verdict", "decode_regime",
         "kernel_path", "null_reason"),
        stages=("profile_inference",), optional=True,
    ),
    TableSpec(
        "profile_ratios", "profile", "Each arm against the baseline",
        "Measured in one process in the order A B B A; 95 % intervals over pairs of windows.",
        ("variant", "arm", "batch", "prompt_tokens", "new_tokens", "throughput_ratio", "throughput_ratio_low",
         "gross_j_per_token_ratio", "gross_j_per_token_ratio_low", "net_j_per_token_ratio", "net_j_per_token_ratio_low",
         "power_ratio", "used_bytes_ratio", "generate_peak_mib_ratio", "decode_regime", "status", "null_reason"),
        stages=("profile_inference",), optional=True,
    ),
    TableSpec(
        "profile", "profile", "Every cell",
        "Latency is that of a whole batch; memory is the arm's own. Over the roof: the speed as a share of what the "
        "measured bandwidth and arithmetic allow.",
        ("variant", "arm", "batch", "prompt_tokens", "new_tokens", "status", "latency_ms_mean", "latency_ms_low",
         "latency_ms_p95", "ttft_ms_mean", "prefill_tok_s", "decode_tok_s", "gross_j_per_ktok", "gross_j_per_ktok_low",
         "net_j_per_ktok", "mean_w", "edp_js", "used_bytes", "disk_bytes", "generate_peak_mib", "decode_over_roof",
         "decode_regime", "perplexity", "accuracy", "gates_passed", "reason", "null_reason"),
        stages=("profile_inference",), optional=True,
    ),
    TableSpec(
        "inference_benchmark", "profile", "In the published columns",
        "Names and order of the consumer-GPU benchmark; `vram_mb` is the peak of generating with a reset of its own.",
        stages=("profile_inference",), optional=True,
    ),
    TableSpec(
        "profile_definitions", "profile", "The same by other definitions",
        "Numbers as other projects define them, formed from the same windows and samples of power, beside ours.",
        ("arm", "batch", "source", "quantity", "unit", "formula", "value", "ours", "ours_value", "value_over_ours",
         "null_reason"),
        stages=("profile_inference",), optional=True, folded=True,
    ),
    TableSpec(
        "serving_offline", "serving", "Closed batches, in process",
        "Each batch starts when the one before has ended. Natural and fixed lengths are never compared. The roof is "
        "what the machine's measured bandwidth and arithmetic allow; prefill and decode are told apart by a load of "
        "one-token answers.",
        ("variant", "scheme", "kernel", "lengths", "batch_size", "throughput_tok_s", "throughput_tok_s_low",
         "latency_p50_s", "latency_p95_s", "gross_j_per_token", "net_j_per_token", "decode_tok_s", "decode_roof_share",
         "prefill_roof_share", "decode_bound", "gates_passed", "status", "reason", "null_reason"),
        stages=("benchmark_serving",), optional=True,
    ),
    TableSpec(
        "serving_online", "serving", "Loads on a server",
        "Latencies count from the moment at which a request was due, so that a queue before the server counts too. "
        "Joules are those of the steady state.",
        ("variant", "scheme", "kernel", "load", "throughput_tok_s", "steady_tok_s", "ttft_p50_ms", "ttft_p95_ms",
         "tpot_p50_ms", "tpot_p95_ms", "e2e_p95_ms", "slo_met_share", "goodput_requests_per_s", "gross_j_per_token",
         "gross_j_per_good_request", "saturated", "error_share", "status", "reason", "null_reason"),
        stages=("benchmark_serving",), optional=True,
    ),
    TableSpec(
        "serving_capacity", "serving", "Memory and capacity",
        "One row per start of an engine: where its memory went, how many of the longest requests fit into its cache, "
        "and the largest rate of arrivals that it served well enough.",
        ("variant", "scheme", "kernel", "mode", "capacity_requests_per_s", "missed_requests_per_s", "max_concurrency",
         "memory_weights_mib", "memory_kv_cache_mib", "memory_activations_mib", "memory_reserved_mib",
         "idle_at_rest_w", "idle_loaded_w", "startup_s", "status", "reason", "null_reason"),
        stages=("benchmark_serving",), optional=True,
    ),
    TableSpec(
        "serving_kernels", "serving", "Kernels",
        "What really multiplied the matrices, and what that made of the speed: over the reference scheme, and over the "
        "kernel that the engine chooses by itself, under the same load.",
        ("variant", "scheme", "kernel", "lengths", "batch_size", "quantization_kernel", "attention_backend",
         "cuda_graphs", "throughput_tok_s", "over_reference", "over_own_choice", "status", "reason"),
        stages=("benchmark_serving",), optional=True,
    ),
    TableSpec(
        "serving_benchmark", "serving", "The published columns",
        "Closed batches under the names and in the order of the published benchmark; GB are 10^9 bytes.",
        stages=("benchmark_serving",), optional=True, folded=True,
    ),
    TableSpec(
        "heads", "heads", "Scored cells",
        "How many heads differ between reasoning prompts and general ones, prompts with the same words and length, and "
        "between two halves of the reasoning prompts. What shows only in the first may be style and vocabulary.",
        ("variant", "scheme", "heads", "heads_above_null_general", "heads_above_null_matched",
         "heads_above_null_split_half", "tv_max_general", "null_tv_mean_general", "tv_max_matched", "top_heads",
         "bottom_heads", "depth_spearman", "depth_spearman_low", "top_tenth_late_share", "throughput_tok_s", "status",
         "reason"),
        stages=("score_heads",), optional=True,
    ),
    TableSpec(
        "head_scores", "heads", "Every head",
        "The plug-in distance errs upwards, the one from below downwards; the interval allows for both. "
        "q: Benjamini and Hochberg's over the heads of the cell.",
        ("layer_idx", "head_idx", "tv_distance", "mean_activation_reasoning", "mean_activation_general", "variant",
         "scheme", "tv_distance_low", "tv_crossfit", "tv_null_mean", "q_value", "tv_matched", "q_value_matched",
         "tv_split_half", "dw_relative"),
        stages=("score_heads",), optional=True, folded=True,
    ),
    TableSpec(
        "head_agreement", "heads", "Do the same heads stand out after training?",
        "Rank correlations over the heads, with intervals over the prompts.",
        ("from", "to", "heads", "tv_spearman", "tv_spearman_low", "heads_moved", "largest_change",
         "change_dw_spearman", "change_dw_spearman_low", "dw_norm_total", "null_reason"),
        stages=("score_heads",), optional=True,
    ),
    TableSpec(
        "head_changes", "heads", "Which heads moved",
        "Scores after minus before on the same prompts, and the change of the head's own weights.",
        ("from", "to", "layer_idx", "head_idx", "tv_change", "tv_change_low", "q_value", "dw_norm", "dw_relative"),
        stages=("score_heads",), optional=True, folded=True,
    ),
    TableSpec(
        "head_pruning", "heads", "Pruning curve",
        "Each point against the unpruned model and against random heads at the same share, on the same items and text. "
        "Switched-off heads are still computed: energy changes with the length of the answers only.",
        ("variant", "strategy", "percent", "draw", "n_pruned_heads", "accuracy", "accuracy_low", "difference",
         "difference_low", "mcnemar_p_holm", "accuracy_minus_random", "accuracy_minus_random_low", "perplexity",
         "perplexity_low", "nll_minus_none", "nll_minus_none_low", "nll_minus_random", "nll_minus_random_low",
         "tokens_per_item", "gross_j_per_item", "gross_j_per_item_low", "null_reason"),
        stages=("prune_heads",), optional=True,
    ),
    TableSpec(
        "published_inference", "cost", "Generation beside the published table",
        "Published rows as they were published, ours of the same precision below each, in the published columns.",
        ("source", "scheme", "Precision", "Model Size (MB)", "Mean Latency (ms)", "Tokens/sec", "WikiPPL", "GSM8K",
         "status", "note"),
        stages=("profile_inference",), optional=True, empty="The study names no published numbers.",
    ),
    TableSpec(
        "train_profile", "training", "GRPO steps: time, memory, energy",
        "Adapters on a frozen base of this type. Means are of the measured steps that went well, with 95 % intervals "
        "over steps; a step that ran out of memory is counted only.",
        ("scheme", "status", "steps_ok", "oom_count", "rollout_s_mean", "rollout_s_mean_low", "rollout_s_p95",
         "rollouts_per_min", "update_s_mean", "step_s_mean", "peak_allocated_step_mib", "peak_rss_step_mib",
         "mean_rollout_w", "mean_update_w", "gross_j_per_rollout", "gross_j_per_rollout_low", "net_j_per_rollout",
         "gross_j_per_step", "gross_j_per_step_low", "net_j_per_step", "above_loaded_idle_j_per_step",
         "long_tail_rate", "long_tail_low_rate", "idle_slot_rate", "null_reason"),
        stages=("profile_training",), optional=True, empty="No profile of GRPO steps has been made yet.",
    ),
    TableSpec(
        "train_profile_ratios", "training", "GRPO steps: 4-bit base against the unquantized one",
        "Step by step on the same prompts; the runs followed each other.",
        ("scheme", "baseline", "quantity", "ratio", "ratio_low", "steps", "null_reason"),
        stages=("profile_training",), optional=True, empty="The profile names one type of the base only.",
    ),
    TableSpec(
        "train_profile_published", "training", "GRPO steps beside the published numbers",
        "Ours and the published ones are of different machines and count differently where the note says so.",
        ("metric", "unit", "published", "scheme", "measured", "measured_low", "steps", "note", "null_reason"),
        stages=("profile_training",), optional=True, empty="The study names no published numbers.",
    ),
    TableSpec(
        "train_profile_steps", "training", "GRPO steps one by one", "Under the published column names.",
        stages=("profile_training",), optional=True, folded=True, empty="No profile of GRPO steps has been made yet.",
    ),
    TableSpec(
        "llamacpp_backends", "llamacpp", "CPU against GPU",
        "Latency without loading, gross joules and energy-delay product of a request, suite by suite.",
        stages=("profile_llamacpp",), optional=True,
    ),
    TableSpec(
        "llamacpp_per_token", "llamacpp", "The same per generated token",
        "Tokens are those that the engine counted. EDP is joules per token times seconds per token.",
        stages=("profile_llamacpp",), optional=True,
    ),
    TableSpec(
        "llamacpp_ablations", "llamacpp", "Ablations",
        "Each value against the first of its comparison, paired over the rounds of one session; a ratio whose interval "
        "holds 1 is no difference.",
        ("comparison", "backend", "suite", "value", "latency_s", "decode_tok_s", "prefill_tok_s",
         "gross_j_per_request", "edp_gross_js", "latency_ratio", "latency_ratio_low", "gross_j_ratio",
         "gross_j_ratio_low", "edp_gross_ratio", "edp_gross_ratio_low", "status", "reason"),
        stages=("profile_llamacpp",), optional=True,
    ),
    TableSpec(
        "llamacpp_ranking", "llamacpp", "Ranking, ties as ties",
        "The rank is one more than the number of arms that are better with confidence, corrected for all pairs.",
        ("criterion", "suite", "rank", "arm", "type", "value", "tied_with", "rounds"),
        stages=("profile_llamacpp",), optional=True,
    ),
    TableSpec(
        "llamacpp_race", "llamacpp", "Race to sleep",
        "Which arm needs least energy until the deadline, by the power at rest. Of the arms with one type of file.",
        ("suite", "idle_from_w", "idle_to_w", "winner", "gross_j_per_request", "s_per_request", "deadline_s",
         "measured_idle_w", "at_measured_idle", "total_at_measured_idle_j", "fastest"),
        stages=("profile_llamacpp",), optional=True,
    ),
    TableSpec(
        "llamacpp_arms", "llamacpp", "Every arm",
        "Prefill and decode by the engine's own counters, loading apart; joules of one boundary for every arm.",
        ("arm", "suite", "load_s", "latency_s", "latency_low_s", "latency_p95_s", "ttft_s", "prefill_tok_s",
         "decode_tok_s", "gross_j_per_request", "net_j_per_request", "prefill_gross_j_per_request",
         "decode_gross_j_per_request", "edp_gross_js", "edp_net_js", "edp_published_js", "edp_per_token_js",
         "share_of_bandwidth", "bits_per_weight", "peak_rss_mib", "status", "reason", "null_reason"),
        stages=("profile_llamacpp",), optional=True,
    ),
)  # fmt: skip

FIGURES: dict[str, tuple[str, str, str]] = {
    "serving_latency": ("serving", "Throughput against latency", ""),
    "serving_energy": ("serving", "Joules per token against concurrency", ""),
    "serving_goodput": ("serving", "Goodput", ""),
    "serving_roofs": ("serving", "Decode speed and its roof", ""),
    "train_profile": ("training", "Where a GRPO step goes", "Time and energy by part; lengths of the rollouts."),
    "head_map": ("heads", "Where heads tell reasoning prompts from others", "A dot: above the null."),
    "head_null": ("heads", "How large distances are by chance", ""),
    "head_pruning": ("heads", "What switching heads off costs", ""),
    "profile_batch": ("profile", "Latency and energy against the batch", ""),
    "profile_roofline": ("profile", "Roofline of prompts and decoding steps", ""),
    "llamacpp_backends": ("llamacpp", "Backends side by side", ""),
    "llamacpp_energy_latency": ("llamacpp", "Energy against latency", ""),
    "llamacpp_threads": ("llamacpp", "Threads", ""),
    "llamacpp_layers": ("llamacpp", "Layers offloaded", ""),
    "llamacpp_batch": ("llamacpp", "Prompt batch", ""),
    "llamacpp_parallel": ("llamacpp", "Requests at once", ""),
    "llamacpp_types": ("llamacpp", "Quantization types", ""),
    "llamacpp_power": ("llamacpp", "Power during the session", ""),
    "llamacpp_race": ("llamacpp", "Race to sleep", ""),
}
"""Figure -> section, title, help."""
