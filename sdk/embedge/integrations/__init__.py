"""Adapters to frameworks that people have: one file each, imported on use, and the only importer of its framework."""
