"""Evidence on a whole stack: made by a drill, kept in the locked bucket, verified with the key beside stack.json."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from holdfast.cli import main
from tests.support.stack import Stack
from tests.support.waiting import until


def call(stack: Stack, *words: str) -> Result:
    return CliRunner().invoke(main, ["--stack", str(stack.layout.stack_json), *words])


@pytest.mark.stack
@pytest.mark.control("B4", "records reach the off-site store and the database, also when those were away")
async def test_what_a_stack_did_is_in_both_homes_and_verified_with_its_own_key(stack: Stack, tmp_path: Path) -> None:
    taken = call(stack, "backup", "create")
    assert taken.exit_code in (0, 3), taken.output  # 3: one that the stack began by itself is running

    def arrived() -> bool:
        found = json.loads(call(stack, "evidence", "status", "--json").stdout)
        counts = {mirror["mirror"]: int(mirror["count"]) for mirror in found["mirrors"]}
        return int(found["count"]) > 0 and counts == dict.fromkeys(("database", "store"), int(found["count"]))

    await until(arrived, "evidence in both homes")
    status = call(stack, "evidence", "status")
    assert status.exit_code == 0, status.output

    path = tmp_path / "evidence.jsonl"
    done = call(stack, "evidence", "export", "--output", str(path))
    assert done.exit_code == 0, done.output
    verified = call(stack, "evidence", "verify", str(path), "--json")
    assert verified.exit_code == 0, verified.output
    assert json.loads(verified.stdout)["kinds"]["backup"] >= 1

    client = stack.parts.store._client("setup", 10.0)
    rule = client.get_object_lock_configuration(Bucket="evidence")["ObjectLockConfiguration"]["Rule"]
    lock = rule["DefaultRetention"]
    assert (lock["Mode"], lock["Days"] >= 3 * 366) == ("COMPLIANCE", True)
    key = client.list_objects_v2(Bucket="evidence")["Contents"][0]["Key"]
    until_when = client.get_object_retention(Bucket="evidence", Key=key)["Retention"]["RetainUntilDate"]
    assert (until_when - datetime.now(UTC)).days > 3 * 365


@pytest.mark.stack
def test_the_signing_key_is_the_services_alone_and_the_public_one_is_for_everybody(stack: Stack) -> None:
    private = stack.layout.secrets / "backup" / "evidence_key"
    assert private.stat().st_mode & 0o777 == 0o600
    public = Path(str(stack.document["evidence_key_file"]))
    assert public.stat().st_mode & 0o777 == 0o644
    assert public.read_text() == call(stack, "evidence", "key").stdout
