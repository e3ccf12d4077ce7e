"""What shuts a copy in besides namespaces: its own settings, its own door, and the one thing it may ask for."""

import asyncio
import getpass
from pathlib import Path

import pytest

from services.backup.adapters import copy
from services.backup.adapters.pgbackrest import PgBackRest
from services.backup.adapters.pgbackrest_options import options
from services.backup.adapters.place import Place
from services.backup.adapters.wal_server import WalServer

SEGMENT = "000000010000000000000005"


class Archive(PgBackRest):
    """Has every segment; a fetch writes where it is told to."""

    async def fetch_wal(self, name: str, destination: Path, *, data_dir: Path, work_dir: Path) -> bool:
        await asyncio.to_thread(destination.write_text, name)
        return True


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "drills").mkdir()
    made = Place.of("01m8hcbh43k313fhe1yvbvjc0k", drills=tmp_path / "drills", run=tmp_path)
    made.make()
    (made.data / "pg_wal").mkdir(parents=True)
    return made


def test_a_copy_lets_nobody_in_but_this_user_by_its_own_socket(place: Place) -> None:
    copy._prepare(place, "postgres")
    doors = (place.work / "hba.conf").read_text().splitlines()
    assert doors
    assert all(door.split()[0] == "local" and door.endswith(" peer map=drill") for door in doors)
    maps = (place.work / "ident.conf").read_text().splitlines()
    assert {line.split()[1] for line in maps} == {f'"{getpass.getuser()}"'}
    told = copy.overrides(place)
    assert (told["listen_addresses"], told["unix_socket_permissions"], told["ssl"]) == ("", "0700", "off")
    assert (told["archive_mode"], told["archive_command"], told["archive_library"]) == ("off", "", "")
    assert (place.sockets.stat().st_mode & 0o777, place.work.stat().st_mode & 0o777) == (0o700, 0o700)


def test_a_restore_is_told_not_to_archive_also_when_nobody_says_so_at_the_start() -> None:
    assert "--archive-mode=off" in options("restore", io_seconds=1)


@pytest.mark.parametrize(
    ("request_line", "answer"),
    [
        (f"{SEGMENT} pg_wal/RECOVERYXLOG", "there"),
        (f"{SEGMENT} pg_wal/../../stolen", "refused"),
        (f"{SEGMENT} /etc/stolen", "refused"),
        ("pg_hba.conf pg_wal/RECOVERYXLOG", "refused"),
        (f"{SEGMENT} pg_wal/RECOVERYXLOG more", "refused"),
        ("", "refused"),
    ],
)
async def test_a_copy_gets_wal_and_nothing_else_and_nowhere_else(place: Place, request_line: str, answer: str) -> None:
    nothing = Path("/nonexistent")
    server = WalServer(Archive("pgbackrest", "x", nothing, nothing, nothing), place)
    await server.start()
    try:
        reader, writer = await asyncio.open_unix_connection(place.wal_socket)
        writer.write(f"{request_line}\n".encode())
        assert (await reader.readline()).decode().strip() == answer
        writer.close()
    finally:
        await server.stop()
    written = {path.name for path in place.work.rglob("*") if path.is_file()}
    assert written == ({"RECOVERYXLOG"} if answer == "there" else set())
