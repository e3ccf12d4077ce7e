"""What is escrowed, read from an installation's files. The list is closed; see the package for what is left out."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SECRETS = (
    "auth/root_keys",
    "auth/cookie_keys",
    "stack/repository_cipher",
    "backup/heartbeat_key",
    "backup/evidence_key",
    "files/key_encryption_keys",
)
REPOSITORY = "repository/pgbackrest.conf"
AUTHORITY = "repository/ca.pem"
HEARTBEAT_KEY = "secrets/backup/heartbeat_key"
FILE_ROOTS = "secrets/files/key_encryption_keys"
FOR_DRILLS = (REPOSITORY, AUTHORITY, HEARTBEAT_KEY, FILE_ROOTS)
"""All that a drill needs: no key of a person's session lies where a drill finds its own."""
CA_OPTION = "repo1-storage-ca-file"
_SECTION = re.compile(r"^\[([^\]]+)\]$")
# How backups are written and how long they are kept is nothing to a restore.
_WRITERS = ("repo1-retention", "repo1-bundle", "repo1-block", "repo1-hardlink")
_READING = ("process-max=2", "log-level-console=warn", "log-level-file=off")


class Missing(Exception):
    """Files that an escrow has to hold are not there; the message names all of them."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Where one installation keeps its secrets. state: its state directory, as stack.json names it."""

    state: Path

    @property
    def secrets(self) -> Path:
        """One directory of secret files per service."""
        return self.state / "secrets"

    @property
    def repository_config(self) -> Path:
        """The engine's file with the identity that may only read."""
        return self.state / "conf" / "pgbackrest-read.conf"

    @property
    def records(self) -> Path:
        """Where it is remembered what was escrowed: beside the backup service's own state, readable by it."""
        return self.state / "backup" / "escrow"


def gather(installation: Installation) -> dict[str, bytes]:
    """Name in the escrow → content. Raises Missing with every file that is absent; OSError for one that is unreadable.

    For root, or the user who owns the secrets.
    """
    paths = {f"secrets/{name}": installation.secrets / name for name in SECRETS}
    config = installation.repository_config
    absent = [str(path) for path in (*paths.values(), config) if not path.is_file()]
    if absent:
        raise Missing("not there: " + ", ".join(absent))
    found = {name: path.read_bytes() for name, path in paths.items()}
    text = config.read_text(encoding="utf-8")
    found[REPOSITORY] = repository_part(text).encode()
    authority = option(text, CA_OPTION)
    if authority:
        if not Path(authority).is_file():
            raise Missing(f"not there: {authority}, which {config} names")
        found[AUTHORITY] = Path(authority).read_bytes()
    return found


def repository_part(config: str) -> str:
    """Of the engine's file *config*, what it takes to read the repository from anywhere. Raises Missing."""
    kept = [
        line
        for line in (line.strip() for line in config.splitlines())
        if line.startswith("repo1-") and not line.startswith(_WRITERS)
    ]
    if not any(line.startswith("repo1-cipher-pass=") for line in kept):
        raise Missing("the engine's file names no repo1-cipher-pass: there is nothing to escrow")
    return "\n".join(["[global]", *kept, *_READING, "", f"[{stanza(config)}]", ""])


def stanza(config: str) -> str:
    """The one stanza of the engine's file. Raises Missing for none or several."""
    named = [found[1] for found in map(_SECTION.match, config.splitlines()) if found and found[1] != "global"]
    if len(named) != 1:
        raise Missing(f"the engine's file names {len(named)} stanzas, not one")
    return named[0]


def option(config: str, name: str) -> str:
    """The value of an option in the engine's file, "" when it is not there."""
    found = re.search(rf"^{re.escape(name)}=(.*)$", config, re.MULTILINE)
    return found[1].strip() if found else ""


def repository_of(config: str) -> Mapping[str, str]:
    """What tells one repository from another, without a secret: two that differ are not the same place."""
    names = ("repo1-type", "repo1-path", "repo1-s3-bucket", "repo1-s3-endpoint", "repo1-storage-port")
    return {"stanza": stanza(config), **{name: option(config, name) for name in names}}
