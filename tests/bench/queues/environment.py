"""The environment of the peers: made by the benchmark itself, beside those of `make setup`."""

import fcntl
import re

from deploy.stack import install
from deploy.stack.layout import CHECKOUT, checkout_home

LOCK = CHECKOUT / "tests" / "bench" / "requirements.txt"


class Peers(install.Environment):
    """What requirements.txt beside the benchmarks locks; ensure() makes it once and checks every hash."""

    def __init__(self) -> None:
        self.path = checkout_home() / "bench"
        self.python = self.path / "bin" / "python"
        self.lock = LOCK
        self.stamp = self.path / "holdfast.stamp"

    def version(self, name: str) -> str:
        """The locked version of a distribution."""
        found = re.search(rf"^{re.escape(name)}==(\S+)", self.lock.read_text(encoding="utf-8"), re.MULTILINE)
        assert found is not None, name
        return found[1]


def peers() -> Peers:
    """The environment, made if need be; one process at a time."""
    install.ensure_home()
    made = Peers()
    with open(checkout_home() / "bench.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made.ensure()
    return made
