"""Makes the environments that a checkout needs: `/usr/bin/python3 -m deploy.stack.install [dev]`, standard library
only.

- tools: Envoy, SeaweedFS, supervisor, buf and the generators, from requirements-tools.txt
- venv:  the services' requirements, and the two distributions of this checkout installed as wheels
- dev:   tests, linters and types, from requirements-dev.txt; only when asked for

Each environment carries a stamp, the hash of what it was made from: a second run compares stamps and does nothing.
The stamp is written last, so that an interrupted run is simply made again. Every download is checked against the
locks' hashes.
"""

import fcntl
import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from deploy.stack.layout import CHECKOUT, SERVICE_USER, as_root, checkout_home

PYTHON = "/usr/bin/python3"
PACKAGES = ("libs", "services", "deploy", "protos")
LOCKS = {"tools": "requirements-tools.txt", "venv": "requirements.txt", "dev": "requirements-dev.txt"}
SKIPPED = {"__pycache__", "build", "dist", "node_modules"}
IMAGE = CHECKOUT / "libs" / "rpc" / "image.binpb"
"""The contract's image, made in the checkout itself."""


def digest(paths: Iterable[Path]) -> str:
    """One hash over names and contents."""
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(f"{path.relative_to(CHECKOUT)}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()


def sources() -> list[Path]:
    """Every file whose change makes another installation: the packages, the contract, the two project files."""
    found = [CHECKOUT / "pyproject.toml"]
    for folder in PACKAGES:
        for root, folders, names in os.walk(CHECKOUT / folder):
            folders[:] = [name for name in folders if name not in SKIPPED and not name.endswith(".egg-info")]
            found += [Path(root) / name for name in names if not name.endswith((".pyc", ".binpb"))]
    return found


def revision() -> str:
    """What names the present state of the sources; stack.json carries it."""
    return digest(sources())[:16]


class Environment:
    """One virtual environment below the checkout's home."""

    def __init__(self, name: str) -> None:
        self.path = checkout_home() / name
        self.python = self.path / "bin" / "python"
        self.lock = CHECKOUT / LOCKS[name]
        self.stamp = self.path / "holdfast.stamp"

    def ensure(self) -> bool:
        """Make it anew unless it is of the present lock and its interpreter still runs; whether it was made."""
        wanted = digest([self.lock]) + " " + os.path.realpath(PYTHON)
        if self.stamp.exists() and self.stamp.read_text(encoding="utf-8") == wanted and self.python.exists():
            return False
        shutil.rmtree(self.path, ignore_errors=True)
        run(PYTHON, "-m", "venv", str(self.path))
        self.pip("install", "--require-hashes", "--only-binary=:all:", "-r", str(self.lock))
        self.stamp.write_text(wanted, encoding="utf-8")
        return True

    def pip(self, *arguments: str) -> None:
        """Run this environment's pip, quietly."""
        run(str(self.python), "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", *arguments)


def run(*command: str, cwd: Path = CHECKOUT) -> None:
    """Run a command; end with its own output when it fails. PYTHONPATH is kept from it: it would hide what is
    installed.
    """
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode != 0:
        told = done.stdout.decode(errors="replace").strip()
        sys.exit(f"{' '.join(command)}\nended with {done.returncode}:\n{told}\nOnce that is mended, run make again.")


def install_own(venv: Environment, tools: Environment) -> bool:
    """Install this checkout's two distributions unless the present sources are installed; whether it was done."""
    stamp, wanted = venv.path / "sources.stamp", revision()
    # A checkout cloned anew has its environments from before, and not the file that is made in itself.
    if IMAGE.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return False
    stamp.unlink(missing_ok=True)
    run(str(tools.python), "protos/build.py", "image")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        tree = work / "tree"
        copy_tree(tree)
        for project in (tree / "libs" / "client", tree):
            tools.pip(
                "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(work / "wheels"), str(project)
            )
        wheels = [str(path) for path in (work / "wheels").glob("*.whl")]
        venv.pip("install", "--no-deps", "--no-index", "--force-reinstall", *wheels)
    stamp.write_text(wanted, encoding="utf-8")
    return True


def copy_tree(target: Path) -> None:
    """Copy what a wheel is built from, so that no build leftovers land in the checkout."""
    extra = [path for path in (CHECKOUT / "README.md", CHECKOUT / "LICENSE", IMAGE) if path.exists()]
    for path in [*sources(), *extra]:
        copy = target / path.relative_to(CHECKOUT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    (target / "README.md").touch()


def ensure_user() -> bool:
    """As root, make the user that the parts run as; whether it was made."""
    if not as_root():
        return False
    try:
        pwd.getpwnam(SERVICE_USER)
    except KeyError:
        home = "/var/lib/holdfast"
        run("useradd", "--system", "--user-group", "--home-dir", home, "--shell", "/usr/sbin/nologin", SERVICE_USER)
        return True
    return False


def ensure_home() -> bool:
    """Make the home; as root, `.holdfast` in the checkout becomes a link to it. Whether something was made."""
    home, link = checkout_home(), CHECKOUT / ".holdfast"
    present = home.is_dir() and (link == home or link.resolve() == home)
    home.mkdir(parents=True, exist_ok=True)
    if as_root():
        for directory in (home.parent, home):
            directory.chmod(0o755)
        if link.is_symlink():
            link.unlink()
        if link.exists():
            sys.exit(f"{link} is in the way: it was made by an ordinary user. Remove it, then run this again.")
        link.symlink_to(home)
    return not present


def step(name: str, deed: Callable[[], bool]) -> None:
    """Do one step and say what it did and how long it took, on standard error; on a terminal also that it goes on."""
    began, watched = time.monotonic(), sys.stderr.isatty()
    if watched:
        print(f"  {name} …", end="\r", file=sys.stderr, flush=True)
    done = deed()
    if watched:
        print("\033[2K", end="\r", file=sys.stderr, flush=True)
    if done:
        print(f"  {name:<56} ok   {time.monotonic() - began:6.1f} s", file=sys.stderr)


def main() -> None:
    """Make what is missing. Argument `dev`: the development environment too."""
    os.umask(0o022)
    os.environ.pop("PIP_REQUIRE_VIRTUALENV", None)
    tools, venv = Environment("tools"), Environment("venv")
    step("user holdfast", ensure_user)
    step("home", ensure_home)
    with open(checkout_home() / "install.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ensure_environments(tools, venv)


def ensure_environments(tools: Environment, venv: Environment) -> None:
    """Make or mend each environment in its order; one process at a time."""
    step("tools environment", tools.ensure)
    step("service environment", venv.ensure)
    step("services installed", lambda: install_own(venv, tools))
    if "dev" in sys.argv[1:]:
        step("development environment", Environment("dev").ensure)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nbroken off: the same make goes on from here")
    except OSError as fault:
        sys.exit(f"{fault}\nOnce that is mended, run make again.")
