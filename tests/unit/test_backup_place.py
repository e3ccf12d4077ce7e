"""A copy is gone when nothing is left of it, and only then."""

import shutil
import subprocess
import sys
from pathlib import Path

from services.backup.adapters.place import Place

_WAITING = "import signal; print(flush=True); signal.pause()"


def test_a_place_is_gone_only_without_directory_sockets_and_processes(tmp_path: Path) -> None:
    (tmp_path / "drills").mkdir()
    place = Place.of("01m8hcbh43k313fhe1yvbvjc0k", drills=tmp_path / "drills", run=tmp_path)
    assert place.gone()
    place.make()
    assert not place.gone()
    shutil.rmtree(place.work)
    assert not place.gone()
    shutil.rmtree(place.sockets)
    assert place.gone()
    place.make()
    argv = [sys.executable, "-c", _WAITING, str(place.data)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as left:
        assert left.stdout is not None
        left.stdout.readline()
        shutil.rmtree(place.work)
        shutil.rmtree(place.sockets)
        assert not place.gone()
        assert place.processes() == [left.pid]
        left.kill()
    assert place.remove()
