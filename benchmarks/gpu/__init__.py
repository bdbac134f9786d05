"""The GPU's benchmark: `python -m benchmarks.gpu --tokenizer FILE` on a machine with onnxruntime-gpu and torch."""
