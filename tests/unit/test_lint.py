"""What `make lint` has to refuse, tried on a bad line and a good one."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAD = '"""One."""\n\n\ndef query(name: str) -> str:\n    """Two."""\n    return '
BAD = HEAD + "f\"SELECT * FROM files WHERE name = '{name}'\"\n"
GOOD = HEAD + '"SELECT * FROM files WHERE name = :name"\n'


@pytest.mark.control("T11", "SQL built from strings fails lint")
@pytest.mark.parametrize(("code", "refused"), [(BAD, True), (GOOD, False)], ids=["built", "bound"])
@pytest.mark.parametrize("where", ["services/files/store/x.py", "libs/db/x.py", "deploy/stack/x.py"])
def test_sql_built_from_strings_fails_lint(code: str, refused: bool, where: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--stdin-filename", str(ROOT / where), "-"],
        cwd=ROOT, input=code, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode == 1) == refused, done.stdout + done.stderr
    assert ("S608" in done.stdout) == refused
