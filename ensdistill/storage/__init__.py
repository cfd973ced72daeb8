"""Files that survive a kill: atomic writes, checksums, checkpoints."""
