"""The program: `python -m services.auth [serve|check]`; migrations of all services: `python -m libs.db.migrate`."""

from libs import process
from services.auth.app import build
from services.auth.config import Config

if __name__ == "__main__":
    process.main(Config, build)
