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
