"""The judgement of a copy's data and structure, from what was counted in it: pure, so that each lie has its test.

Nothing here trusts the copy's own constraints: an index or a trigger that is damaged would vouch for damaged rows.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from services.backup.domain.drill import Check, not_made
from services.backup.domain.object_rpo import LAG, ROWS

_SHOWN = 3
_COMPARED = re.compile(r"(\d+)/(\d+) relations")
_BLOCKS = re.compile(r"Blocks scanned:\s+(\d+)")
_BAD = re.compile(r"Bad checksums:\s+(\d+)")
_NO_CHECKSUMS = "data checksums are not enabled"


def backup_pages(damaged: bool | None) -> Check:
    """What the engine found in the pages it read while it took the backup."""
    name = "backup_pages"
    if damaged is None:
        return not_made(name, "the engine does not say whether page checksums held")
    bad = "page checksums failed while the backup was taken: take a full backup, and drill an older one"
    return Check(name, not damaged, 1, bad if damaged else "every page checksum held while the backup was taken")


def foreign_keys(orphans: Mapping[str, int]) -> Check:
    """orphans: table.constraint → rows that refer to nothing."""
    broken = sorted(f"{name} ({count} rows)" for name, count in orphans.items() if count)
    good = "no row refers to one that is not there"
    if not orphans:
        return Check("foreign_keys", False, 0, "the copy has no foreign key: the schema is not there")
    return Check("foreign_keys", not broken, len(orphans), f"orphans in {_some(broken)}" if broken else good)


def sequences(values: Mapping[str, tuple[int, int]]) -> Check:
    """values: sequence → (its last value, the largest value in the column it feeds); it must not lag behind."""
    late = sorted(f"{name} is at {last}, the column at {most}" for name, (last, most) in values.items() if last < most)
    good = "no sequence lags behind its column"
    return Check("sequences", not late, len(values), _some(late) if late else good)


def migrations(found: Mapping[str, str], known: Mapping[str, tuple[str, ...]], *, newest: bool) -> Check:
    """found: schema → revision in the copy, "" for none. known: schema → this release's revisions, oldest first.

    newest: the copy is of now, so it has to stand at the head; an older one may stand at any revision we know.
    """
    faults, behind = [], []
    for schema, revisions in sorted(known.items()):
        at = found.get(schema, "")
        if at not in revisions:
            faults.append(f"{schema} is at {at or 'no revision'}, which this release does not know")
        elif at != revisions[-1]:
            behind.append(f"{schema} is at {at}, this release at {revisions[-1]}")
    wrong = faults + (behind if newest else [])
    good = f"older than this release, to be migrated: {_some(behind)}" if behind else "at this release's heads"
    return Check("migrations", not wrong, len(known), _some(wrong) if wrong else good)


def jobs(unfinished: int, claimed_since: int, sessions: int, *, may_run: bool | None) -> Check:
    """unfinished: jobs in the copy; claimed_since: those taken since it started; sessions: of anybody but the drill.

    may_run: what the queue's guard says to a worker that would start on the copy; None in one older than the guard.
    """
    faults = []
    if may_run:
        faults.append("the queue's guard would let workers run in a restored database")
    if claimed_since:
        faults.append(f"{claimed_since} jobs were claimed in the copy")
    if sessions:
        faults.append(f"{sessions} strangers are connected to the copy")
    held = "held by the queue's guard" if may_run is False else "older than the queue's guard"
    good = f"nobody works in the copy; {unfinished} unfinished jobs lie still, {held}"
    return Check("jobs_still", not faults, unfinished, "; ".join(faults) or good)


def objects_of_rows(asked: int, missing: Mapping[str, datetime]) -> Check:
    """missing: keys of ready versions whose object is not there, or has another size, and when each was finished."""
    if not missing:
        return Check(ROWS, True, asked, "each has its object, of its size" if asked else "there is no file")
    return Check(ROWS, False, asked, f"without their object: {_some(list(missing))}", since=min(missing.values()))


def deletes_lag(waiting: int, shortest: timedelta | None, age: timedelta) -> Check:
    """shortest: for how long the bytes are kept that go first after their delete, of all that wait in the copy.

    age: of the copy's newest heartbeat. What was deleted since then has to have its bytes still.
    """
    if shortest is None:
        return not_made(LAG, "no delete waits in the copy to tell for how long bytes are kept")
    kept = f"bytes of deleted files are kept for {_span(shortest)}, and the copy is {_span(age)} old"
    return Check(LAG, shortest > age, waiting, kept)


def rows_of_objects(asked: int, strangers: Sequence[str]) -> Check:
    """strangers: objects that were there before the target and that no row knows."""
    good = "each is known" if asked else "no object is older than the target"
    return Check("rows_of_objects", not strangers, asked, f"known to no row: {_some(strangers)}" if strangers else good)


def file_opens(found: str | None, restored: str, erased: int) -> Check:
    """found: SHA-256 of the bytes that came out, hexadecimal, None when nothing was there to open; restored: its row's.

    erased: files that were passed over, because their users' keys are erased.
    """
    name = "file_opens"
    passed = f"; {erased} of erased keys were passed over, and stayed erased" if erased else ""
    if found is None:
        none = f"no file that was drawn can be opened any more: {erased} are of erased keys" if erased else "no file"
        return not_made(name, none)
    if found != restored:
        return Check(name, False, 1, f"a file opened and has other bytes than its restored row says{passed}")
    good = "one file opened with its user's key by the escrowed roots alone, its bytes as its restored row says"
    return Check(name, True, 1, f"{good}{passed}")


def structure(code: int, out: str, err: str, *, strict: bool) -> Check:
    """What pg_amcheck said: 0 is sound, 2 is corruption, anything else means that it could not look."""
    name = "amcheck"
    counted = _COMPARED.findall(err)
    count = int(counted[-1][0]) if counted else 0
    depth = "heap, TOAST, every index entry and its parents" if strict else "heap, TOAST and index order"
    if code == 0 and count:
        return Check(name, True, count, f"{depth} are sound")
    words = " ".join((out.strip() or err).split())[:400]
    if code == 2:
        return Check(name, False, count, f"corruption: {words}")
    return Check(name, False, count, f"pg_amcheck ended with code {code}: {words}")


def pages(code: int, out: str, err: str) -> Check:
    """What pg_checksums said of the stopped copy."""
    name = "page_checksums"
    if _NO_CHECKSUMS in err:
        return not_made(name, "the cluster has no page checksums: pg_checksums --enable while it is stopped")
    blocks, bad = _BLOCKS.search(out), _BAD.search(out)
    count = int(blocks[1]) if blocks else 0
    if code == 0 and count and bad and bad[1] == "0":
        return Check(name, True, count, "every page carries its checksum")
    words = " ".join((err.strip() or out).split())[:400]
    return Check(name, False, count, f"pg_checksums ended with code {code}: {words}")


def _span(time: timedelta) -> str:
    return f"{time.total_seconds() / 86400:.1f} days" if time.days > 1 else f"{time.total_seconds():.0f} s"


def _some(faults: Sequence[str]) -> str:
    more = len(faults) - _SHOWN
    return "; ".join(faults[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
