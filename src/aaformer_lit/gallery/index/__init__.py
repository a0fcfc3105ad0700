"""Search structures over a gallery's features: one engine per file."""
