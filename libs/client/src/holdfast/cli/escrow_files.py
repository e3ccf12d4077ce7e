"""Where `holdfast escrow` finds an installation, how escrow and installation compare, and the words for it."""

import os
import re
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import run

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from holdfast.escrow import Installation, Sealed
    from holdfast.escrow.record import Standing

DROP_IN = "escrow"
_SAME, _CHANGED, _ABSENT = "as installed", "CHANGED since", "not installed here"


def found() -> Path | None:
    """The state directory of the stack of this directory, also while it is down; None without one."""
    options = _options()
    if options.stack_file:
        return Path(str(options.stack()["state_dir"]))
    here = Path.cwd()
    homes = (folder / ".holdfast" for folder in (here, *here.parents))
    return next((home / "state" for home in homes if (home / "state").is_dir()), None)


def installation(state: str) -> "Installation":
    """The installation to read. Ends with 2 when nothing names one."""
    from holdfast.escrow import Installation

    where = Path(state) if state else found()
    if where is None:
        raise click.UsageError("There is no .holdfast/state here or above: name the state directory by --state DIR.")
    return Installation(where.resolve())


def apart(output: Path, installation: "Installation") -> None:
    """Refuse an output beside what it is to survive. Ends with 2."""
    from holdfast.escrow.contents import option

    config = installation.repository_config
    text = config.read_text(encoding="utf-8") if os.access(config, os.R_OK) else ""
    near = {"the installation": installation.state.parent}
    if option(text, "repo1-type") == "posix":
        near["the repository"] = Path(option(text, "repo1-path"))
    for what, folder in near.items():
        if output.resolve().is_relative_to(folder.resolve()):
            raise click.UsageError(
                f"{output} would lie in {what} ({folder}): what is lost with it cannot bring it back. Write it"
                " elsewhere, best on a volume that you carry away, or add --force."
            )
    if output.exists():
        raise click.UsageError(f"{output} exists: add --force to replace it.")


def sealed(contents: Mapping[str, bytes], certificates: "Sequence[Certificate]", now: datetime) -> "Sealed":
    """The escrow of this host. Raises Unfit."""
    from holdfast.escrow import seal
    from holdfast.escrow.contents import REPOSITORY, stanza

    host = re.sub(r"[^\w.-]", "_", socket.gethostname())
    return seal(contents, certificates, made_at=now, stack=host, stanza=stanza(contents[REPOSITORY].decode()))


def compared(contents: Mapping[str, bytes], here: "Installation") -> dict[str, str]:
    """Name → how it stands to what is installed. Raises Missing when not even half an installation is there."""
    from holdfast.escrow import gather

    installed = gather(here)
    names = sorted(contents.keys() | installed.keys())
    return {name: _standing(contents.get(name), installed.get(name)) for name in names}


def stale(compared: Mapping[str, str]) -> list[str]:
    """The names that a restore would get wrong."""
    return [name for name, how in compared.items() if how != _SAME]


def _standing(escrowed: bytes | None, installed: bytes | None) -> str:
    if installed is None:
        return _ABSENT
    return _SAME if escrowed == installed else _CHANGED


def drop_in() -> Path:
    """Where the running stack's deep drills look: below /run as root, so it is gone after a restart of the machine."""
    return Path(str(_options().stack()["run_dir"])) / DROP_IN


def after_drills() -> str:
    """What comes next when an escrow was opened for drills."""
    return "Next: holdfast drill run --kind deep. To end it: holdfast escrow close"


def after_open(directory: Path, stanza: str) -> str:
    """What comes next on a bare machine."""
    engine = f"pgbackrest --config={directory}/pgbackrest.conf --stanza={stanza}"
    return (
        f"Next: see whether the repository answers:  {engine} info\n"
        f"Then restore:  {engine} --pg1-path=DATA restore   (all of it: deploy/runbooks/restore-bare-machine.md)\n"
        f"When done, remove the keys:  holdfast escrow close {directory}"
    )


def document(standing: "Standing") -> dict[str, Any]:
    """A standing as JSON."""
    made = standing.exported
    return {
        "ok": standing.good,
        "exported_at": made.exported_at.isoformat() if made else None,
        "verified_at": made.verified_at.isoformat() if made and made.verified_at else None,
        "sha256": made.sha256 if made else None,
        "recipients": list(made.recipients) if made else [],
        "stale": list(standing.stale),
    }


def words(standing: "Standing") -> str:
    """A standing for a person."""
    made = standing.exported
    if made is None:
        return "No escrow was ever exported: holdfast escrow export --recipient CERT… --output FILE"
    verified = (
        f"opened well {made.verified_at:%Y-%m-%d}" if made.verified_at else "never opened: holdfast escrow verify"
    )
    text = f"exported {made.exported_at:%Y-%m-%d %H:%M}Z for {len(made.recipients)} recipients, {verified}"
    if standing.stale:
        return f"{text}\nSTALE: {', '.join(standing.stale)} changed since. Export again, verify, carry it away."
    return f"{text}\nIt holds what is installed.\nsha256 {made.sha256}"


def _options() -> run.Options:
    return click.get_current_context().find_object(run.Options) or run.Options("", "", "", False)
