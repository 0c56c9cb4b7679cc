"""GRPO training: settings for TRL, a trainer that is metered, a step log that survives a kill, the final merge."""
