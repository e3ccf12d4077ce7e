"""What `holdfast drill run` refuses before it asks anybody."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from holdfast.cli import main


@pytest.mark.parametrize("words", [("--between", "0"), ("--backup", ""), ("--time", ""), ("--lsn", "")])
def test_a_zero_or_an_empty_variable_of_a_script_is_no_wish_for_the_default(tmp_path: Path, words: list[str]) -> None:
    run = ["drill", "run", "--socket", str(tmp_path / "nobody.sock")]
    assert CliRunner().invoke(main, run).exit_code == 4  # it would have asked
    refused = CliRunner().invoke(main, [*run, *words])
    assert refused.exit_code == 2
    assert f"Invalid value for '{words[0]}'" in refused.stderr


@pytest.mark.parametrize(
    ("moment", "why"),
    [
        ("0001-01-01T00:00:00+23:59", "has to lie in the years 1 to 9999 of UTC"),
        ("9999-12-31T23:59:59-23:59", "has to lie in the years 1 to 9999 of UTC"),
        ("0000-01-01T00:00:00+00:00", "has to be ISO 8601"),
        ("2026-11-22T01:02:03", "has to say its offset"),
    ],
)
def test_a_moment_that_is_none_is_wrong_usage(tmp_path: Path, moment: str, why: str) -> None:
    run = ["drill", "run", "--socket", str(tmp_path / "nobody.sock"), "--time"]
    assert CliRunner().invoke(main, [*run, "0001-01-01T00:00:00+00:00"]).exit_code == 4  # it would have asked
    refused = CliRunner().invoke(main, [*run, moment])
    assert refused.exit_code == 2
    assert f"Invalid value for --time: {why}" in refused.stderr
