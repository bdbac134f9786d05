"""Graph outputs become answers; the only numpy formulas."""
