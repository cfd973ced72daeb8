"""ONNX files from traced JAX functions, by a converter of the primitives that inference needs."""
