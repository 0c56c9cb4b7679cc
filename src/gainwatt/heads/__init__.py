"""Which attention heads tell reasoning prompts from others: scores with controls, and what pruning by them costs."""
