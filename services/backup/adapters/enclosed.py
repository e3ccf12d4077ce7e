"""Enter namespaces of one's own, hide directories, and become the given program; a script, standard library only.

    enclosed.py --namespaces user,net,mount,ipc [--hide PATH]... [--keep DIR]... -- PROGRAM ARGUMENT...

The network namespace has no interface that is up: no address, no route. The mount namespace covers each hidden path
with an empty directory or file, so that Unix sockets and files, which cross network namespaces, are out of reach too;
kept directories inside hidden ones stay. All of it works without privileges where the kernel allows user namespaces.
Source: namespaces(7), user_namespaces(7), mount(2), prctl(2).
"""

import ctypes
import os
import signal
import sys

_FLAGS = {"user": 0x10000000, "net": 0x40000000, "mount": 0x00020000, "ipc": 0x08000000}
_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
_BIND, _RECURSIVE, _PRIVATE = 0x1000, 0x4000, 0x40000
_PARENT_DEATH_SIGNAL, _NO_NEW_PRIVILEGES = 1, 38
_libc = ctypes.CDLL(None, use_errno=True)


def _call(what: str, *arguments: object) -> None:
    if getattr(_libc, what)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def enter(namespaces: list[str]) -> None:
    """Leave the shared namespaces; user and group keep their numbers."""
    uid, gid = os.geteuid(), os.getegid()
    _call("unshare", sum(_FLAGS[name] for name in namespaces))
    if "user" in namespaces:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    if "mount" in namespaces:
        _call("mount", b"none", b"/", None, ctypes.c_ulong(_RECURSIVE | _PRIVATE), None)


def hide(directories: list[str], kept: list[str]) -> None:
    """Cover *directories* (and files, with nothing), outermost first, then show *kept* at their places again."""
    handles = [(directory, os.open(directory, os.O_PATH | os.O_DIRECTORY)) for directory in kept]
    for directory in sorted(directories, key=len):
        if os.path.isdir(directory):
            flags = ctypes.c_ulong(_NOSUID_NODEV_NOEXEC)
            _call("mount", b"tmpfs", os.fsencode(directory), b"tmpfs", flags, b"mode=0700,size=64k")
        elif os.path.isfile(directory):
            _call("mount", b"/dev/null", os.fsencode(directory), None, ctypes.c_ulong(_BIND), None)
    for directory, handle in handles:
        if not os.path.isdir(directory):
            os.makedirs(directory, mode=0o700)
            source = os.fsencode(f"/proc/self/fd/{handle}")
            _call("mount", source, os.fsencode(directory), None, ctypes.c_ulong(_BIND), None)
        os.close(handle)


def bind_to_parent() -> None:
    """Ask the kernel for SIGINT, a server's fast shutdown, when the parent dies; and give up gaining privileges."""
    parent = os.getppid()
    _call("prctl", _PARENT_DEATH_SIGNAL, ctypes.c_ulong(signal.SIGINT), 0, 0, 0)
    _call("prctl", _NO_NEW_PRIVILEGES, ctypes.c_ulong(1), 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("the parent has ended")


def main(arguments: list[str]) -> None:
    """Read the command line, do as it says, become the program."""
    namespaces: list[str] = []
    hidden: list[str] = []
    kept: list[str] = []
    while arguments and arguments[0] != "--":
        option, value, *arguments = arguments
        if option == "--namespaces":
            namespaces = value.split(",") if value else []
        else:
            {"--hide": hidden, "--keep": kept}[option].append(value)
    program = arguments[1:]
    if namespaces:
        enter(namespaces)
    if "mount" in namespaces:
        hide(hidden, kept)
    bind_to_parent()
    os.execv(program[0], program)


if __name__ == "__main__":
    main(sys.argv[1:])
