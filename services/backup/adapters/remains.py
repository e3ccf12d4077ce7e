"""What is read off a copy before it is removed, however its drill ended: for evidence."""

import hashlib
import struct
from dataclasses import dataclass

from services.backup.adapters.place import Place

_SYSTEM_ID = struct.Struct("=Q")
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Remains:
    """system_id: which server's data was restored; log_digest: SHA-256 of the copy's server log. "" for what is not
    there."""

    system_id: str
    log_digest: str


def of(place: Place) -> Remains:
    """What is at *place* now; blocks. Source: pg_control_data begins with the system identifier, 64 bits."""
    return Remains(_system_id(place), _log_digest(place))


def _system_id(place: Place) -> str:
    try:
        with (place.data / "global" / "pg_control").open("rb") as file:
            found = file.read(_SYSTEM_ID.size)
    except OSError:
        return ""
    return str(_SYSTEM_ID.unpack(found)[0]) if len(found) == _SYSTEM_ID.size else ""


def _log_digest(place: Place) -> str:
    total = hashlib.sha256()
    try:
        with place.log.open("rb") as file:
            while block := file.read(_READ_BYTES):
                total.update(block)
    except OSError:
        return ""
    return total.hexdigest()
