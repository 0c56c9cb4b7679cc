"""GSM8K (Cobbe et al., 2021): one prompt, one parser and one score for reward, evaluation and tests."""
