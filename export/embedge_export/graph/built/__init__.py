"""A described encoder becomes an ONNX graph; no module here knows a family."""
