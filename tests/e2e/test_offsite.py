"""A whole stack that moves its backups and its evidence: a second SeaweedFS stands for the other site."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace

import pytest
from click.testing import CliRunner

from deploy.stack import backup_store
from deploy.stack.layout import save_settings, settings
from holdfast.cli import main
from tests.support.seaweed import SeaweedServer, serving
from tests.support.stack import MakeStack, Stack
from tests.support.waiting import until


@pytest.fixture
def other_site() -> Iterator[SeaweedServer]:
    """The store there."""
    with serving() as server:
        yield server


@pytest.fixture
def stack(make_stack: MakeStack, other_site: SeaweedServer) -> Iterator[Stack]:
    """A stack that knows of no other site yet; down before that store is."""
    made = make_stack()
    made.up()
    yield made
    made.command("down")


def keys(server: SeaweedServer, bucket: str) -> list[str]:
    found = server.client("setup").list_objects_v2(Bucket=bucket).get("Contents", [])
    return [str(one["Key"]) for one in found]


def own_keys(stack: Stack, bucket: str) -> set[str]:
    found = stack.parts.store._client("setup", 10.0).list_objects_v2(Bucket=bucket).get("Contents", [])
    return {str(one["Key"]) for one in found}


def give_pairs(stack: Stack, other_site: SeaweedServer) -> None:
    path = stack.layout.secrets / backup_store.PAIRS
    known = other_site.seaweed.identities
    pairs = {name: asdict(known[name]) for name in backup_store.NAMES}
    path.touch(mode=0o600)
    path.write_text(json.dumps(pairs), encoding="utf-8")


def done(stack: Stack, *words: str) -> None:
    result = CliRunner().invoke(main, ["--stack", str(stack.layout.stack_json), *words])
    assert result.exit_code in (0, 3), result.output  # 3: one that the stack began by itself is running


@pytest.mark.stack
@pytest.mark.control("B1", "the repository is off-site and doctor flags one that is not")
async def test_a_stack_moves_its_backups_and_its_evidence_to_the_store_that_the_settings_name(
    stack: Stack, other_site: SeaweedServer
) -> None:
    done(stack, "backup", "create")
    assert own_keys(stack, "files"), "the canary's file"
    authority = str(other_site.seaweed.ca_file)
    endpoint = f"https://localhost:{other_site.seaweed.ports.s3}"
    chosen = replace(settings(stack.layout), offsite_endpoint=endpoint, offsite_ca_file=authority)
    save_settings(stack.layout, chosen)
    refused = stack.command("up", "--no-tour")
    assert refused.returncode == 1
    assert backup_store.PAIRS in refused.stdout + refused.stderr

    give_pairs(stack, other_site)
    stack.up()
    left = own_keys(stack, "backups"), own_keys(stack, "evidence")
    done(stack, "backup", "create", "--type", "full")
    assert {key.split("/")[1] for key in keys(other_site, "backups")} == {"archive", "backup"}
    done(stack, "drill", "run", "--kind", "light")
    # Also the first record, which the stack's own store has.
    await until(lambda: any("/records/000000000001-" in key for key in keys(other_site, "evidence")), "evidence there")
    assert (own_keys(stack, "backups"), own_keys(stack, "evidence")) == left
    assert left[0], "the control: the first backup lies here"
