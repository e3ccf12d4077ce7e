"""What pgBackRest's exit codes mean here: try again later, or call a person; and what that person should do.

Source: its table of errors, whose numbers are the same from 2.45 on. `info` exits with 0 whatever it met and names the
class of the error in a message, e.g. "[HostConnectError]"; 103 and 104 stand for other errors that they quote. A socket
is a file to it: only the words tell a store that stalls or hangs up from a disk that fails.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from libs.errors import AppError
from services.backup.adapters.command import Finished
from services.backup.domain.errors import BackupBusy, ConfigurationGone, EngineAway, EngineFailed

_LOCK_HELD = 50
_FILE_MISSING = 55
_UNKNOWN = 125  # the engine's own, for an error without a code
_SUMMARIES = {103, 104}
_QUOTED = re.compile(r"ERROR: \[(\d{3})\]")
_CLASS = re.compile(r"\[?\b([A-Z][A-Za-z]+Error)\b\]?")


@dataclass(frozen=True, slots=True)
class Exit:
    """meaning: what happened, in a few words. remedy: what to do. again: whether the same call may work later."""

    meaning: str
    remedy: str
    again: bool = False


_READ_LOG = "Read the log"
EXITS = {
    26: Exit("a checksum does not match", "Do not trust this backup: run verify, then take a full one"),
    27: Exit("its configuration is wrong", "Mend the engine's configuration file"),
    28: Exit("the stanza belongs to another database", "Upgrade the stanza, or point the engine at the right server"),
    29: Exit("a file of the repository cannot be parsed", "Check the cipher pass; if it is right, the file is damaged"),
    31: Exit("it refuses an option", "Compare its version with the ones this service is made for"),
    32: Exit("it refuses the value of an option", "Mend the engine's configuration file"),
    37: Exit("an option is missing", "Mend the engine's configuration file"),
    38: Exit("a server is running in the directory to be restored", "Find out whose it is before anything else"),
    39: Exit("the store refused", "Check the identity's key and what it may do in the store"),
    40: Exit("a directory that has to be empty is not", "Find out whose it is before anything else"),
    41: Exit("a file cannot be opened", "Check owner and mode of the file it names"),
    42: Exit("a file cannot be read", "Check the disk and the file it names"),
    44: Exit("the archive belongs to another database", "Find the server that archives into this stanza, and stop it"),
    45: Exit(
        "a WAL segment is in the archive with other content",
        "Find the copy or rolled back server that archives into this stanza, and stop it; then take a full backup",
    ),
    49: Exit("the store cannot be reached", "Check that the object store runs and the network to it", again=True),
    50: Exit("another of its processes holds the lock", "Wait for it to end", again=True),
    51: Exit("the stanza belongs to another database", "Upgrade the stanza, or point the engine at the right server"),
    55: Exit("a file of the repository is missing", "Run verify; without backup.info restore it from its copy"),
    56: Exit("the database does not answer", "Check that Postgres runs", again=True),
    57: Exit("a query failed in the database", "Check the privileges of the engine's role"),
    58: Exit("the server and the configuration disagree", "Compare pg1-path with the server's data directory"),
    62: Exit("it was told to stop", "Look for a stop file, and for whoever made it"),
    63: Exit("it was ended by a signal", _READ_LOG),
    64: Exit("a file cannot be written", "Check the free space and the owner of the directory it names"),
    73: Exit("a directory is missing", "Check the path it names"),
    75: Exit("that backup cannot be used for it", "Choose another backup or target; the only full one always stays"),
    82: Exit(
        "WAL was not archived in time",
        "See why archiving fails (pg_stat_archiver, the server's log)",
        again=True,
    ),
    83: Exit("a file has the wrong mode", "Check the mode of the file it names"),
    87: Exit("the database does not archive", "Set archive_mode and archive_command, and restart Postgres"),
    95: Exit("a file cannot be decrypted", "Check the cipher pass of the repository"),
    99: Exit("a file of the repository cannot be parsed", "Check the cipher pass; if it is right, the file is damaged"),
    101: Exit("the store answers with a fault of its own", "Check the object store's health", again=True),
    103: Exit("no repository can be used", _READ_LOG),
    104: Exit("at least one of its steps failed", _READ_LOG),
    105: Exit("the store refused", "Check the identity's key and what it may do in the store"),
    106: Exit("the clock has been moved", "Set the clock right: a new backup has to be later than the newest one"),
}
_STALLED = Exit(
    "the store does not answer in time", "Check that the object store runs and the network to it", again=True
)
_TRANSFER = re.compile(r"timeout|waiting for (?:read|write)|unexpected eof", re.IGNORECASE)
# An HTTP error that the store answers has the code 39 too, and any words.
_STALLS = {39: re.compile(r"unexpected TLS eof"), 42: _TRANSFER, 64: _TRANSFER}
_CLASSES = {
    "HostConnectError": 49,
    "ServiceError": 101,
    "ProtocolError": 39,
    "CryptoError": 95,
    "FormatError": 29,
    "JsonFormatError": 29,
    "FileMissingError": 55,
    "FileOpenError": 41,
    "FileReadError": 42,
    "FileWriteError": 64,
    "FileInvalidError": 28,
    "ChecksumError": 26,
    "AccessError": 105,
    "ClockError": 106,
}


def explained(code: int, words: str) -> Exit:
    """What *code* means beside the engine's *words*; an unknown one is a fault to be looked at."""
    if code < 0:
        return Exit("it did not end in time, or was killed", "Look for what it waited on", again=True)
    if code in _STALLS and _STALLS[code].search(words):
        return _STALLED
    return EXITS.get(code, Exit("it failed", _READ_LOG))


def judge(verb: str, done: Finished, log: Path) -> None:
    """Return when *done* ended with 0. Raises BackupBusy, EngineAway (may work later) or EngineFailed (call a person).

    log: where the engine tells more.
    """
    if done.code == 0:
        return
    code = _cause(done)
    if code == _LOCK_HELD:
        raise BackupBusy("The backup engine is busy: another of its processes holds the lock.", command=verb)
    raise refusal(verb, code, done.last_words(), log)


def configured(verb: str, done: Finished, config: Path) -> None:
    """Return when *config* was there. Raises ConfigurationGone: to the engine it is a missing file like another."""
    if done.code == _FILE_MISSING and f"missing file '{config}'" in done.err + done.out:
        raise ConfigurationGone(
            f"pgbackrest {verb}: the engine's configuration file {config} is gone (code {done.code}). An escrow that"
            " was opened for drills has to stay open until the drill ends; any other file has to be written again."
            f" It said: {done.last_words()}",
            command=verb, code=done.code, config=config,
        )  # fmt: skip


def refusal(verb: str, code: int, words: str, log: Path, *, status: int = 0) -> AppError:
    """The error for *code*: what it means, what to do, what the engine said, where it says more. status: of `info`."""
    exit_ = explained(code, words)
    kind = EngineAway if exit_.again else EngineFailed
    message = f"pgbackrest {verb}: {exit_.meaning} (code {code}). {exit_.remedy}. Log: {log}. It said: {words}"
    return kind(message, command=verb, code=code, log=log, status=status)


def classified(message: str) -> int:
    """The code of the first known error class that *message* names, 125 when it names none."""
    for name in _CLASS.findall(message):
        if name in _CLASSES:
            return _CLASSES[name]
    return _UNKNOWN


def _cause(done: Finished) -> int:
    """The code that explains: that of a quoted error when the exit code only counts them."""
    if done.code not in _SUMMARIES:
        return done.code
    quoted = [int(code) for code in _QUOTED.findall(done.err + done.out) if int(code) not in _SUMMARIES]
    if quoted:
        return quoted[0]
    named = classified(done.err + done.out)
    return done.code if named == _UNKNOWN else named
