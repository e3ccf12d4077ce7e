"""`make up` on a stack that runs: what runs from something older than what is laid out is seen."""

from pathlib import Path

import pytest

from deploy.stack.layout import Layout
from deploy.stack.parts import Part
from deploy.stack.supervise import Program
from deploy.stack.up import fingerprint


@pytest.mark.parametrize("name", ["conf/envoy.yaml", "store/identities.json"])
def test_a_part_whose_file_has_changed_since_it_was_started_is_another_one(tmp_path: Path, name: str) -> None:
    """New identities of the object store were laid out, and the running store went on refusing them."""
    where = Layout(tmp_path, tmp_path, tmp_path / "run")
    path = where.state / name
    for each in (path, path.with_name("other")):
        each.parent.mkdir(parents=True, exist_ok=True)
        each.write_text("before")
    program = Program(name="part", argv=["program", f"-s3.config={path}"], directory=tmp_path)
    part = Part(program=program, fault=lambda: "")
    before = fingerprint(part, where, "revision")
    path.with_name("other").write_text("after")
    assert fingerprint(part, where, "revision") == before  # the control
    path.write_text("after")
    assert fingerprint(part, where, "revision") != before
