"""A bundle's folder comes to its place whole, or not at all: locked, staged beside it, swapped in."""
