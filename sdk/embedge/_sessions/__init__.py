"""One graph on one device; the only importer of onnxruntime."""
