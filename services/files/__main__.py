"""`python -m services.files [serve|check|erase organizations/O/users/U]`."""

from libs.process import main
from services.files.app import build, erase
from services.files.config import Config

if __name__ == "__main__":
    main(Config, build, deeds={"erase": erase})
