"""Fixtures of the backup tests: a cluster that archives, and the service on it."""

from tests.support.backup import archived, service
from tests.support.keeping import mould, one, own_cluster, two

__all__ = ["archived", "mould", "one", "own_cluster", "service", "two"]
