"""Optimised graphs, built from a configuration and weights."""
