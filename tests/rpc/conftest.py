"""Fixtures of the RPC tests."""

from tests.unit.conftest import lines

__all__ = ["lines"]
