"""The destinations of numbers and pictures: metrics.jsonl, TensorBoard, the terminal."""
