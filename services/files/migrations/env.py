"""Alembic's entry point for the schema `files`."""

from libs.db import migrate

migrate.run()
