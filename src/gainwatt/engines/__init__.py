"""Engines that turn prompts into completions, behind one small interface (`base.Engine`)."""
