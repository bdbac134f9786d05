"""One module per system. Each has `load(job)`, which returns a function from texts to an array (n, dim), and PACKAGES.

All do the same work: all-MiniLM-L6-v2, 256 tokens, mean pooling, unit length, the same number of threads. Imports stand
inside `load`, so that the child's clock sees them.
"""
