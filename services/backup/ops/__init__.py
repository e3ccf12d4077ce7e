"""What the backup service can do: one verb, one method; nothing here knows the wire."""
