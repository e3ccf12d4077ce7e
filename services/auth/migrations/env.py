"""Alembic's entry point for the schema `auth`."""

from libs.db import migrate

migrate.run()
