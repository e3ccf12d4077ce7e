"""How strongly a program can be shut in on this machine: found out by trying, strongest first."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.backup.adapters import command

_SCRIPT = Path(__file__).with_name("enclosed.py")
_TRY_SECONDS = 10.0
_LEVELS = (
    (
        ("user", "net", "mount", "ipc"),
        "own network, mount and IPC namespaces: no interface, production's directories hidden",
    ),
    (("user", "net"), "own network namespace: no interface; production's Unix socket is not hidden"),
    ((), "no namespaces on this machine: private socket and archiving off only"),
)


@dataclass(frozen=True, slots=True)
class Isolation:
    """namespaces: what can be entered here. description: the same in words, for the record of each drill."""

    namespaces: tuple[str, ...]
    description: str

    @classmethod
    def unknown(cls) -> "Isolation":
        """Before it has been tried."""
        return cls((), _LEVELS[-1][1])

    @property
    def networkless(self) -> bool:
        """Whether the copy has no network at all."""
        return "net" in self.namespaces

    @property
    def hides(self) -> bool:
        """Whether production's directories are out of the copy's sight."""
        return "mount" in self.namespaces

    def wrap(self, program: Sequence[str], *, hide: Sequence[Path] = (), keep: Sequence[Path] = ()) -> list[str]:
        """*program* (absolute path first) as it is run shut in; bound to this process's life in every case."""
        argv = [sys.executable, "-I", "-S", str(_SCRIPT), "--namespaces", ",".join(self.namespaces)]
        for option, directories in (("--hide", hide), ("--keep", keep)):
            for directory in directories:
                argv += [option, str(directory)]
        return [*argv, "--", *program]


async def strongest() -> Isolation:
    """The strongest level at which a program can be run here."""
    for namespaces, description in _LEVELS:
        level = Isolation(namespaces, description)
        done = await command.run(level.wrap(["/usr/bin/true"]), timeout_seconds=_TRY_SECONDS)
        if done.code == 0:
            return level
    return level
