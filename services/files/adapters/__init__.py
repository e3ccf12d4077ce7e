"""What files does not own: the object store."""
