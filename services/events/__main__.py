"""The program: `python -m services.events [serve|check]`; migrations of all services: `python -m libs.db.migrate`."""

from libs import process
from services.events.app import build
from services.events.config import Config

if __name__ == "__main__":
    process.main(Config, build)
