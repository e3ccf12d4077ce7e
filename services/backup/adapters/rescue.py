"""Restoring with an opened escrow alone: its pass, its identity that may only read, its keys of heartbeats and files.

An operator opens one where drills look (`holdfast escrow open FILE --key KEY --for-drills`). What lies there has to be
as it was escrowed, and of this host's repository: else no drill uses it, and its record says so and never "ok".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from holdfast.escrow import Missing, NotEscrow, repository_of
from holdfast.escrow.place import CONFIG, for_drill
from services.backup.adapters.engine import Engine
from services.backup.adapters.pgbackrest import PgBackRest
from services.backup.domain.drill import Check, not_made
from services.backup.domain.errors import ConfigurationGone, EngineFailed
from services.backup.domain.escrow import CHECK

__all__ = ["CONFIG", "Rescue", "none", "rescuer"]

HEARTBEATS = "heartbeats"


@dataclass(frozen=True, slots=True)
class Rescue:
    """engine: knows nothing but the escrow. key: of heartbeats. told: which escrow, for a person.

    file_roots: the file of root keys that wrap users' keys; empty when the escrow holds none.
    """

    engine: Engine
    key: bytes
    told: str
    file_roots: bytes = field(default=b"", repr=False)

    async def prove(self, label: str) -> None:
        """Return when the escrow opens the repository and *label* is in it. Raises EngineFailed when it does not.

        A repository that cannot be reached now (EngineAway) says nothing about the escrow, and one that was closed
        meanwhile is gone and not useless (ConfigurationGone).
        """
        try:
            held = await self.engine.inspect()
        except ConfigurationGone:
            raise
        except EngineFailed as error:
            raise self._useless(error.message) from error
        if label not in {one.label for one in held.backups}:
            raise self._useless(f"backup {label} is not in what it opens, {held.message}")

    def check(self, made: Sequence[Check]) -> Check:
        """What a drill's record says once the copy has been restored, and its heartbeats judged: *made* so far."""
        proven = any(one.check == HEARTBEATS and one.ok for one in made)
        good = f"pass, identity and key of heartbeats came from {self.told} alone"
        return Check(CHECK, proven, 1, good if proven else f"{self.told} does not prove the copy's heartbeats")

    def _useless(self, why: str) -> EngineFailed:
        return EngineFailed(
            f"{self.told[0].upper()}{self.told[1:]} does not open the repository: a restore with it would fail now."
            " Export another (holdfast escrow export), open that (holdfast escrow open FILE --key KEY --for-drills),"
            f" and drill again. It said: {why}",
            command=CHECK,
        )


def none() -> Check:
    """For an installation where nobody said where an opened escrow would be."""
    return not_made(CHECK, "no escrow opened")


def rescuer(directory: Path, engine: PgBackRest) -> Callable[[], Rescue | Check]:
    """Looks in *directory* anew each time: an escrow to restore with, or the check that could not be made and why."""

    def look() -> Rescue | Check:
        try:
            opened = for_drill(directory)
            theirs = repository_of(opened.config.read_text(encoding="utf-8"))
            ours = repository_of(engine.restore_config.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return not_made(CHECK, f"no escrow opened: there is none in {directory}")
        except (NotEscrow, Missing, OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
            return not_made(CHECK, f"no escrow opened: the one in {directory} is none ({fault})")
        if theirs != ours:
            other = ", ".join(name for name in ours if ours[name] != theirs[name])
            return not_made(
                CHECK, f"no escrow opened: the one in {directory} is of another repository ({other} differ)"
            )
        alone = replace(engine, config=opened.config, restore_config=opened.config, expire_config=opened.config)
        told = f"the escrow of {opened.manifest.made_at}, opened {opened.opened_at[:19]}Z,"
        return Rescue(alone, opened.heartbeat_key, told, opened.file_roots)

    return look
