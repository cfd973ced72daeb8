"""Training: feed, stage, loop with its clock, the one step, optimisers."""
