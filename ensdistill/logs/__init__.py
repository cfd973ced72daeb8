"""Where numbers and pictures go: metrics.jsonl, TensorBoard, the terminal."""
