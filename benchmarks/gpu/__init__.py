"""The GPU's benchmark: `python -m benchmarks.gpu` on a machine with onnxruntime-gpu, torch and transformers."""
