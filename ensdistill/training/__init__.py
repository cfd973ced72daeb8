"""Training: the one step, the loop that repeats it, optimisers."""
