"""Text embedding, classification and reranking from verified ONNX bundles, without torch."""
