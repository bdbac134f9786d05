"""OpenVINO's provider on the CPU, where an onnxruntime has it; `make test-openvino` puts one in front of today's."""
