"""What a file, a version and a path are, and the pure decisions about them."""
