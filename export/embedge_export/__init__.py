"""Hugging Face checkpoints to verified embedge bundles; installed by the extra `embedge[export]`."""
