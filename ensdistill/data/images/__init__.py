"""Images: decoding, windows, sizes, and images that stay in their files."""
