"""The client's session, its errors, and its wheel."""

import asyncio
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import grpc
import pytest

from holdfast.auth.v1 import auth_service_pb2 as auth
from holdfast.cli.state import SavedSession
from holdfast.client import Client
from holdfast.errors import HoldfastError, from_rpc
from holdfast.session import Credentials, Memory, Session
from libs.errors import InvalidArgument, Violation
from libs.rpc import errors

CLIENT = Path(__file__).resolve().parents[2] / "libs" / "client"


def _session(number: int = 1, *, left: float = 1000) -> Session:
    return Session("organizations/o/users/u", "a@b.c", f"access{number}", f"refresh{number}", time.time() + left)


class _Auth:
    """Hands out the next pair; a refresh token works once."""

    def __init__(self) -> None:
        self.used: list[str] = []

    async def refresh(self, token: str) -> auth.Session:
        self.used.append(token)
        await asyncio.sleep(0)
        number = len(self.used) + 1
        made = auth.Session(access_token=f"access{number}", refresh_token=f"refresh{number}")
        made.access_expire_time.FromSeconds(int(time.time()) + 1000)
        return made


async def test_a_token_that_holds_is_not_renewed() -> None:
    store, server = Memory(), _Auth()
    store.save(_session())
    assert await Credentials(store, server.refresh).token() == "access1"
    assert server.used == []


async def test_many_calls_renew_a_token_once() -> None:
    store, server = Memory(), _Auth()
    store.save(_session(left=5))
    credentials = Credentials(store, server.refresh)
    found = await asyncio.gather(*(credentials.token() for _ in range(50)))
    assert set(found) == {"access2"}
    assert server.used == ["refresh1"]
    assert store.load() == credentials.session()


async def test_two_processes_that_share_a_file_renew_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    one, other, server = SavedSession("https://h:1"), SavedSession("https://h:1"), _Auth()
    one.save(_session(left=5))
    both = [Credentials(store, server.refresh) for store in (one, other)]
    assert await asyncio.gather(*(each.token() for each in both)) == ["access2", "access2"]
    assert server.used == ["refresh1"]
    assert one.path.stat().st_mode & 0o777 == 0o600
    assert one.path.parent.stat().st_mode & 0o777 == 0o700
    one.save(None)
    with pytest.raises(HoldfastError) as found:
        both[1].session()
    assert found.value.code == "UNAUTHENTICATED"


def test_a_session_shows_no_token() -> None:
    assert "access1" not in repr(_session())
    assert "refresh1" not in repr(_session())


def test_an_error_keeps_everything_the_server_told() -> None:
    refusal = InvalidArgument("One field.", violations=[Violation("a.b", "too long")], field="a.b")
    trailers: Any = grpc.aio.Metadata(*errors.trailers(refusal, "r1"))
    told = from_rpc(_fault(grpc.StatusCode.INVALID_ARGUMENT, trailers))
    assert (told.code, told.reason, told.request_id) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT", "r1")
    assert [(each.field, each.description) for each in told.violations] == [("a.b", "too long")]
    assert told.facts == {"field": "a.b"}
    bare = from_rpc(_fault(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata()))
    assert (bare.code, bare.reason, bare.message) == ("UNAVAILABLE", "", "text")


def _fault(code: grpc.StatusCode, trailers: Any) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, details="text", debug_error_string="")


@pytest.mark.parametrize("url", ["http://h:1", "h:1", "https://", "https://h/path"])
def test_an_address_that_is_no_edge_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="https://host:port"):
        Client(url)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client's wheel, built without a network from a copy, so that nothing is left in the checkout."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "client"
    subprocess.run(["cp", "-r", str(CLIENT), str(source)], check=True)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(work / "dist"), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (made,) = (work / "dist").glob("holdfast_client-*.whl")
    return made


def test_the_wheel_holds_the_client_and_its_types_and_nothing_of_the_server(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"holdfast/py.typed", "holdfast/cli/__init__.py", "holdfast/files/v1/file_service_pb2.pyi"} <= set(names)
    assert [name for name in names if not name.startswith(("holdfast/", "holdfast_client-"))] == []


def test_the_wheel_works_alone(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    probe = (
        f"import sys; sys.path.insert(0, {str(target)!r})\n"
        "import holdfast, holdfast.usertoken, holdfast.client\n"
        "from holdfast.usertoken import UserTokenInterceptor\n"
        "from holdfast.cli import main\n"
        "import holdfast.files.v1.file_service_pb2_grpc, holdfast.events.v1.event_service_pb2_grpc\n"
        f"assert holdfast.__file__.startswith({str(target)!r})\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", probe], cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.strip("[]\n").replace("'", "").split(", "))
    assert {"holdfast", "grpc", "click", "rich"} <= loaded
    assert not loaded & {"libs", "services", "sqlalchemy", "structlog", "cryptography", "protovalidate"}
