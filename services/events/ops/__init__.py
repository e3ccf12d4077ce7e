"""What this service does: publish, open a stream, follow it, keep it honest while it lives, end it."""
