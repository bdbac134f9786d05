"""A process of its own for what no export wrote, with limits of time and memory; it ends with the one that began it."""
