"""Arguments become a checked call, and rows become numbered outputs."""
