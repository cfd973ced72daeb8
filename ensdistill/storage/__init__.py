"""Files that stay valid if the process is killed: atomic writes, checksums, checkpoints."""
