"""The program: `python -m services.backup [serve|check]`. All migrations run as `python -m libs.db.migrate`."""

from libs import process
from services.backup.app import build
from services.backup.config import Config

if __name__ == "__main__":
    process.main(Config, build)
