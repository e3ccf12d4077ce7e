"""Holdfast's four programs; they talk to each other through generated stubs only."""
