"""What a newcomer meets before there is a stack, and what is left over from another one."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.envoy import config as envoy_config
from deploy.stack import install, ports
from deploy.stack.layout import CHECKOUT, BadSettings, Layout, Settings, settings
from deploy.stack.parts import Parts
from deploy.stack.up import NeverUp, giving_back, running, standing

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def where(tmp_path: Path) -> Layout:
    """A home that nothing was laid out in."""
    return Layout(tmp_path, tmp_path, tmp_path / "run")


def verb(folder: Path, name: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`make NAME` as in a checkout at *folder*."""
    return subprocess.run(
        ["sh", str(ROOT / "deploy/stack/verb.sh"), name],
        cwd=folder,
        env={**os.environ, "FORMAT": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ["status", "doctor", "logs", "tour"])
def test_a_verb_before_anything_is_installed_says_what_comes_next(tmp_path: Path, name: str) -> None:
    done = verb(tmp_path, name)
    assert (done.returncode, done.stdout) == (1, "")
    assert "make up" in done.stderr
    answer = json.loads(verb(tmp_path, name, FORMAT="json").stdout)
    assert answer["ok"] is False
    assert "make up" in answer["said"]


def test_down_and_clean_before_anything_is_installed_have_nothing_to_do(tmp_path: Path) -> None:
    assert verb(tmp_path, "down").returncode == 0
    (tmp_path / ".holdfast" / "tools").mkdir(parents=True)
    assert verb(tmp_path, "clean").returncode == 0
    assert not (tmp_path / ".holdfast").exists()


@pytest.mark.parametrize("name", ["clean", "down", "status"])
def test_data_whose_environment_is_broken_are_neither_destroyed_nor_called_absent(tmp_path: Path, name: str) -> None:
    state = tmp_path / ".holdfast" / "state"
    state.mkdir(parents=True)
    done = verb(tmp_path, name)
    assert (done.returncode, state.exists()) == (1, True)
    assert "make setup" in done.stderr


def test_a_stack_that_was_never_up_is_told_from_one_that_is_down(where: Layout) -> None:
    with pytest.raises(NeverUp, match="make up"):
        standing(where)
    with pytest.raises(NeverUp, match="make up"):
        running(where)


def test_a_store_that_was_just_started_is_waited_for_until_it_gives_bytes_back(where: Layout) -> None:
    parts = Parts(where, dict(ports.DEFAULTS), Settings())
    parts.vault.ensure()
    before = {part.name: part.fault for part in parts.all()}
    after = {part.name: part.fault for part in giving_back(parts, parts.all())}
    assert (before["store"], after["store"]) == (parts.store.healthy, parts.store.ready)
    assert list(before) == list(after)


def test_the_edge_reads_no_file_of_the_checkout(where: Layout) -> None:
    parts = Parts(where, dict(ports.DEFAULTS), Settings())
    rendered = envoy_config.render(parts.edge)
    assert str(where.conf) in rendered
    assert f"{CHECKOUT}/" not in rendered


def test_another_users_store_socket_makes_its_port_unusable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "seaweedfs-master-grpc-19999.sock").touch()
    monkeypatch.setattr(ports, "SOCKETS", tmp_path)
    monkeypatch.setattr(ports, "service_ids", lambda: (os.getuid() + 1, 0))
    assert not ports.free(19999)
    with pytest.raises(ports.PortTaken, match=r"seaweedfs-master-grpc-19999(?s:.*)ports\.json"):
        ports.refuse_clashes({"s3_master_grpc": 19999}, ["s3_master_grpc"], Path("ports.json"))
    monkeypatch.setattr(ports, "service_ids", lambda: (os.getuid(), 0))
    assert ports.strangers(19999) == []


def test_down_takes_the_stores_sockets_away_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "SOCKETS", tmp_path)
    monkeypatch.setattr(ports, "service_ids", lambda: (os.getuid(), 0))
    for port in (19999, 20000):
        (tmp_path / f"seaweedfs-master-grpc-{port}.sock").touch()
    ports.forget_sockets([19999])
    assert [path.name for path in tmp_path.iterdir()] == ["seaweedfs-master-grpc-20000.sock"]


def test_a_broken_file_is_named_and_not_a_traceback(where: Layout) -> None:
    (where.home / "ports.json").write_text("{", encoding="utf-8")
    with pytest.raises(ports.PortTaken, match=r"ports\.json"):
        ports.assigned(where.home / "ports.json", defaults=False)
    for text in ("{", "[]"):
        (where.home / "settings.json").write_text(text, encoding="utf-8")
        with pytest.raises(BadSettings, match=r"settings\.json"):
            settings(where)


def test_without_root_the_one_line_to_run_is_printed(tmp_path: Path) -> None:
    for name in ("sh", "ls", "grep"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / name).symlink_to(found)
    for name, words in (("id", "echo 1000"), ("apt-get", "touch was-run")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{words}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [tmp_path / "sh", ROOT / "deploy/stack/packages.sh"],
        cwd=tmp_path,
        env={"PATH": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, (tmp_path / "was-run").exists()) == (1, False)
    line = done.stderr.splitlines()[-1]
    assert line.strip().startswith("sh -c '")
    assert "pgbackrest" in line
    assert subprocess.run(["sh", "-n", "-c", line], check=False).returncode == 0


def test_a_checkout_cloned_anew_over_its_environments_gets_the_contracts_image_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def built(*command: str) -> None:
        raise KeyboardInterrupt(command[-1])

    monkeypatch.setattr(install, "checkout_home", lambda: tmp_path)
    venv, image = install.Environment("venv"), tmp_path / "image.binpb"
    monkeypatch.setattr(install, "IMAGE", image)
    monkeypatch.setattr(install, "run", built)
    venv.path.mkdir()
    (venv.path / "sources.stamp").write_text(install.revision(), encoding="utf-8")
    image.touch()
    assert not install.install_own(venv, install.Environment("tools"))
    image.unlink()
    with pytest.raises(KeyboardInterrupt, match="image"):
        install.install_own(venv, install.Environment("tools"))
