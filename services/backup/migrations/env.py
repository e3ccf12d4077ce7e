"""Alembic's entry point for the schema `events`."""

from libs.db import migrate

migrate.run()
