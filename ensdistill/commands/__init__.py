"""The commands beside training, a module each."""
