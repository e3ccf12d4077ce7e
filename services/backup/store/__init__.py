"""Queries of the backup service; each takes a Tx."""
