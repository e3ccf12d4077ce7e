"""Fixtures of the backup tests: a cluster that archives, and the service on it."""

from tests.support.backup import archived, service

__all__ = ["archived", "service"]
