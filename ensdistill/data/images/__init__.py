"""Images: decoding, windows, sizes."""
