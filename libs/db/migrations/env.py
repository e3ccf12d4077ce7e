"""Alembic's door into this tree."""

from libs.db import migrate

migrate.run()
