"""Fixtures of the backup tests: a cluster that archives, and the service on it."""

from tests.support.backup import archived, service
from tests.support.keeping import mould, own_cluster

__all__ = ["archived", "mould", "own_cluster", "service"]
