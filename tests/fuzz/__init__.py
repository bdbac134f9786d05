"""Bundles, prompts and parameters that nobody means well: every case ends in an answer or in one of our errors."""
