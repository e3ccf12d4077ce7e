"""`python -m services.files [serve|check]`."""

from libs.process import main
from services.files.app import build
from services.files.config import Config

if __name__ == "__main__":
    main(Config, build)
