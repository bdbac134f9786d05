"""Prompts become token ids; the only importer of tokenizers."""
