"""Files of a student for other runtimes: StableHLO, ONNX, TensorFlow. Each is checked by parity."""
