"""The `holdfast` command: data on stdout, messages on stderr, and an exit code that says what to do."""

import json
from email.message import EmailMessage
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from holdfast.cli import main, run
from holdfast.cli.run import Options, verb
from holdfast.errors import HoldfastError
from holdfast.usertoken import Key, Keys, derive, parse_keys
from holdfast.usertoken.keys import write_keys


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stack.json above the working directory, and a state folder of its own."""
    folder = tmp_path / ".holdfast"
    mails = tmp_path / "mail"
    below = tmp_path / "a" / "b"
    for each in (folder, mails, below):
        each.mkdir(parents=True)
    described = {"edge_url": "https://127.0.0.1:1", "ca_file": str(tmp_path / "ca.pem"), "mail_dir": str(mails)}
    (folder / "stack.json").write_text(json.dumps(described))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("HOLDFAST_STACK", raising=False)
    monkeypatch.chdir(below)
    return tmp_path


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def _mail(stack: Path, number: int, to: str, text: str) -> None:
    message = EmailMessage()
    message["To"], message["Subject"], message["Date"] = to, f"Mail {number}", "Sun, 22 Nov 2026 00:00:00 +0000"
    message.set_content(text)
    (stack / "mail" / f"{number:020d}-x.eml").write_bytes(message.as_bytes())


def test_mail_finds_the_newest_token_of_an_address(stack: Path) -> None:
    first, second = "A" * 43, "b-_9" * 11
    _mail(stack, 1, "ada@example.com", f"Enter this:\n\n{first}\n\nBye.\n")
    _mail(stack, 2, "ada@example.com", f"Enter this:\n\n{second}\n\nBye.\n")
    _mail(stack, 3, "bo@example.com", "No token here, although this line is long enough.\n")
    assert _run("mail", "--to", "ada@example.com", "--latest", "--token").stdout == f"{second}\n"
    assert json.loads(_run("--json", "mail", "--token").stdout) == {"token": second}
    assert [each["subject"] for each in json.loads(_run("mail", "--json").stdout)] == ["Mail 1", "Mail 2", "Mail 3"]
    missing = _run("mail", "--to", "bo@example.com", "--token")
    assert (missing.exit_code, missing.stdout) == (3, "")
    assert "no such mail" in missing.stderr


def test_without_a_stack_the_command_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOLDFAST_STACK", raising=False)
    answer = _run("mail")
    assert answer.exit_code == 1
    assert "make up" in answer.stderr
    assert _run("--stack", str(tmp_path / "nothing.json"), "mail").exit_code == 1


def test_who_is_not_signed_in_is_told_so(stack: Path) -> None:
    (stack / "ca.pem").write_text("")
    answer = _run("whoami", "--json")
    assert (answer.exit_code, answer.stdout) == (5, "")
    assert "holdfast login" in answer.stderr


def test_nobody_is_asked_where_nobody_can_answer(stack: Path) -> None:
    answer = _run("login")
    assert answer.exit_code == 2
    assert "HOLDFAST_EMAIL" in answer.stderr


CODES = {
    "UNAUTHENTICATED": 5, "UNAVAILABLE": 4, "DEADLINE_EXCEEDED": 4, "INTERNAL": 6, "NOT_FOUND": 3, "ABORTED": 3,
    "INVALID_ARGUMENT": 3, "PERMISSION_DENIED": 3, "DATA_LOSS": 1,
}  # fmt: skip


@pytest.mark.parametrize("code", CODES)
def test_a_failure_ends_with_its_code_and_the_request_id(code: str) -> None:
    @click.command()
    @verb
    async def failing(options: Options) -> None:
        raise HoldfastError(code, "No.", "SOME_REASON", request_id="r-1", retry_after_seconds=2)

    answer = CliRunner().invoke(failing)
    assert (answer.exit_code, answer.stdout) == (CODES[code], "")
    for part in ("No. (SOME_REASON)", "Request id: r-1", "again in 2 s"):
        assert part in answer.stderr


def test_keys_are_derived_for_each_service_and_none_sees_the_root(stack: Path) -> None:
    root = Keys(Key("k2", b"2" * 32), None, Key("k1", b"1" * 32))
    (stack / "root").write_bytes(write_keys(root))
    out = stack / "out"
    answer = _run("keys", "derive", "--root", str(stack / "root"), "--out", str(out), "--json")
    written = {Path(path).relative_to(out).as_posix() for path in json.loads(answer.stdout)["written"]}
    assert written == {f"{name}/user_token_keys" for name in ("auth", "files", "events", "backup")} | {
        f"{name}/service_credential" for name in ("files", "events", "backup")
    }
    files = out / "files" / "user_token_keys"
    assert files.stat().st_mode & 0o777 == 0o600
    read = parse_keys(files.read_bytes())
    assert read.current == Key("k2", derive(b"2" * 32, "k2", "files"))
    assert read.previous == Key("k1", derive(b"1" * 32, "k1", "files"))
    assert (
        _run("keys", "derive", "--root", str(stack / "root"), "--out", str(out), "--audience", "billing").exit_code == 0
    )
    assert (out / "billing" / "user_token_keys").exists()
    assert not (out / "billing" / "service_credential").exists()


def test_the_operators_groups_are_registered() -> None:
    assert {"backup", "drill", "recovery", "login", "files", "events", "mail", "keys"} <= set(main.commands)
    assert run.EXITS["UNAUTHENTICATED"] == run.NOT_SIGNED_IN
