"""Single ONNX operators on this machine's CPU provider: `python -m benchmarks.operators [--groups …]`.

The graph builder (export/embedge_export/graphs) writes the operators that win here, and the roofline of the tables is
the rate of the matrix products measured here. Every operator stands alone in a graph without onnxruntime's own
optimisations, in and outputs stay in place, and all are timed in turn, round after round.
"""
