"""`holdfast evidence verify` with nothing but the file and the public key; and the page that customers get."""

import base64
import json
import re
import subprocess
import sys
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from holdfast.cli import main
from holdfast.evidence.page import duration, page
from services.backup.domain.evidence import Entry
from tests.support.evidence import NOW, SIGNER, exported, journal, judged, signer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A true export of three drills, the last failed, and beside it the public key."""
    (tmp_path / "evidence.jsonl").write_bytes(b"".join(exported(journal(tmp_path / "chain", 3))))
    (tmp_path / "key.pem").write_bytes(SIGNER.public_pem)
    return tmp_path / "evidence.jsonl"


def verified(file: Path, *words: str, key: Path | None = None) -> Result:
    command = ["evidence", "verify", str(file), "--key", str(key or file.with_name("key.pem"))]
    return CliRunner().invoke(main, [*command, *words])


@pytest.mark.control("B4", "the newest good drill and every later failure are in a signed, chained record")
def test_a_true_export_is_verified_by_the_command_with_the_public_key_alone(file: Path) -> None:
    done = verified(file)
    assert done.exit_code == 0, done.output
    assert "is what was signed: 3 records" in done.stdout
    told = json.loads(verified(file, "--json").stdout)
    assert (told["ok"], told["count"], told["kinds"]) == (True, 3, {"drill": 3})
    assert told["last_good_drill"] == {"sequence": 2, "subject": "drills/2", "at": "2026-11-22T03:02:00.000000Z"}
    assert told["failures_since"] == ["3 drill drills/3"]


@pytest.mark.control("B4", "a changed byte, a swapped, repeated, inserted or missing record, a cut tail are refused")
def test_an_export_that_was_changed_is_refused_by_the_command_with_the_line_that_is_wrong(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"failed"', b'"succeeded"'))
    done = verified(file)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "is NOT what was signed: line 3: the signature is not right" in done.stderr
    assert "Traceback" not in done.output
    told = json.loads(verified(file, "--json").stdout)
    assert (told["ok"], told["line"]) == (False, 3)


@pytest.mark.control("B4", "a foreign key is refused")
def test_a_key_that_did_not_sign_is_refused_by_the_command(file: Path, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(signer().public_pem)
    done = verified(file, key=tmp_path / "other.pem")
    assert done.exit_code == 1
    assert "signed with another key" in done.stderr
    both = verified(file, "--key", str(tmp_path / "other.pem"))
    assert both.exit_code == 0


@pytest.mark.parametrize("text", ["", "no key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_key_is_wrong_usage(file: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.pem").write_text(text)
    done = verified(file, key=tmp_path / "bad.pem")
    assert done.exit_code == 2
    assert "The key cannot be used" in done.stderr


def test_without_a_key_the_command_takes_the_one_of_the_stack_or_says_where_to_get_it(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOLDFAST_STACK", raising=False)
    done = CliRunner().invoke(main, ["evidence", "verify", str(file)])
    assert done.exit_code == 2
    assert "holdfast evidence key" in done.stderr
    (tmp_path / ".holdfast").mkdir()
    stack = {"evidence_key_file": str(tmp_path / "key.pem")}
    (tmp_path / ".holdfast" / "stack.json").write_text(json.dumps(stack))
    assert CliRunner().invoke(main, ["evidence", "verify", str(file)]).exit_code == 0


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"{}\n", b"[" * 100_000 + b"\n", b"1" * 10_000 + b"\n"])
def test_any_other_file_is_told_to_be_none_and_never_a_traceback(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    done = verified(file)
    assert done.exit_code == 1
    assert "NOT what was signed" in done.stderr


def test_a_file_without_end_is_refused_and_does_not_take_all_memory(file: Path) -> None:
    program = "from holdfast.cli import main; main()"
    words = ["evidence", "verify", "/dev/zero", "--key", str(file.with_name("key.pem"))]
    done = subprocess.run(
        ["prlimit", f"--as={1 << 30}", sys.executable, "-c", program, *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "NOT what was signed: line 1: the line is cut off" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_refusal_does_not_write_what_a_terminal_would_obey(file: Path) -> None:
    key = f'"key":"{SIGNER.id}"'.encode()
    file.write_bytes(file.read_bytes().replace(key, rb'"key":"\u001b[2K\u001b[1Aall is well"', 1))
    record = json.loads(file.read_bytes().splitlines()[0])
    rest = file.read_bytes().partition(b"\n")[2]
    file.write_bytes(json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode() + b"\n" + rest)
    done = verified(file)
    assert done.exit_code == 1
    assert "signed with another key (?[2K?[1Aall is well)" in done.stderr


HOSTILE = '<script>alert("1")</script>\' onload=x &amp;'


class Page(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture
def shown(tmp_path: Path) -> tuple[Page, str]:
    """The page of four drills, one of them failed and full of hostile words, and of a hole in the archive."""
    made = journal(tmp_path, 3)
    bad = {"outcome": "failed", "type": HOSTILE, "reason": HOSTILE, "ended_at": HOSTILE, "rpo_ms": HOSTILE, "checks": 7}
    made.append(Entry("drill", HOSTILE, bad, {"label": "20261122-000001F"}), at=NOW + timedelta(days=9))
    made.append(Entry("rpo_breach", "breaches/1", {"outcome": "failed", "found_at": NOW}), at=NOW)
    lines = exported(made, internal=False)
    text = page(judged(lines), b"".join(lines), title=HOSTILE)
    return Page(text), text


@pytest.mark.control("B4", "customers get an export without internals that they can check themselves")
def test_the_page_shows_both_histories_and_carries_the_records_that_prove_it(shown: tuple[Page, str]) -> None:
    seen, text = shown
    assert seen.tags.count("svg") == 2
    assert seen.tags.count("circle") == 2  # two good drills have an RPO, none has an RTO
    assert "The newest restore drill that succeeded ended at 2026-11-22 03:02:00 UTC" in seen.words
    assert "Failures recorded since: 3." in seen.words
    assert seen.words.count("archived changes were lost") == 1
    carried = re.search(r'href="data:application/jsonl;base64,([^"]+)"', text)
    assert carried is not None
    records = base64.b64decode(carried[1])
    assert judged(records.splitlines(keepends=True)).count == 5
    assert b"20261122-00" not in records


def test_the_page_loads_nothing_and_runs_nothing_whatever_a_record_says(shown: tuple[Page, str]) -> None:
    seen, _ = shown
    assert HOSTILE in seen.words
    assert {"script", "img", "link", "iframe", "object"} & set(seen.tags) == set()
    assert [name for name, _ in seen.attributes if name.startswith("on")] == []
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in seen.attributes
    addresses = [value or "" for name, value in seen.attributes if name in ("src", "href")]
    assert [value for value in addresses if not value.startswith("data:")] == []


def test_a_page_without_any_drill_says_so(tmp_path: Path) -> None:
    lines = exported(journal(tmp_path), internal=False)
    text = page(judged(lines), b"".join(lines), title="Evidence")
    assert "No restore drill has succeeded yet." in text
    assert "there is nothing to show yet" in text
    assert "<svg" not in text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(None, "–"), ("x", "–"), (0, "0.0 s"), (61_500, "61.5 s"), (600_000, "10.0 min"), (9_000_000, "2.5 h")],
)
def test_a_duration_is_told_in_the_unit_that_fits(milliseconds: object, text: str) -> None:
    assert duration(milliseconds) == text
