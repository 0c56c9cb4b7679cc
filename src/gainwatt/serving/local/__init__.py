"""An OpenAI-compatible server over transformers: greedy, token by token, requests join and leave the batch."""
