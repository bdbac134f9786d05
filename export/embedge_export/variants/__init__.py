"""Smaller and faster forms of the float32 graph."""
