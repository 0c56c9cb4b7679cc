"""Tasks of the Language Model Evaluation Harness (lm-eval) on checkpoints of a study, by the harness's own code."""
