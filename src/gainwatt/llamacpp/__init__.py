"""llama.cpp as an engine to be profiled: suites of prompts, arms, files, the metered session, its numbers."""
