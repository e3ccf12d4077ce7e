"""Failures of the schedule stand until what failed has been made up for."""

from services.backup.domain.schedule import Task
from tests.support.keeping import Keeper, wrapper


async def test_a_differential_backup_does_not_hide_that_the_full_one_fails(one: Keeper) -> None:
    await one.full()
    program = wrapper(one.archived.base)
    sound = program.read_text(encoding="utf-8")
    program.write_text(sound.replace("exec", 'case "$*" in *--type=full*) exit 26;; esac\nexec'), encoding="utf-8")
    try:
        one.kept.scheduler.ask(Task.FULL)
        assert await one.kept.scheduler.look() is Task.FULL
        assert "full: " in one.conditions()["backup_failing"]
        one.kept.scheduler.ask(Task.DIFFERENTIAL)
        assert await one.kept.scheduler.look() is Task.DIFFERENTIAL
        assert one.kept.scheduler.attempts[Task.DIFFERENTIAL].ok
        await one.kept.scheduler.look()
        assert "full: " in one.conditions()["backup_failing"]
    finally:
        program.write_text(sound, encoding="utf-8")
    one.kept.scheduler.ask(Task.FULL)
    assert await one.kept.scheduler.look() is Task.FULL
    assert one.conditions() == {}


async def test_a_full_backup_that_met_a_stalled_store_is_tried_again_soon(one: Keeper) -> None:
    """The one that a breach asks for waited six hours for a person."""
    await one.full()
    program = wrapper(one.archived.base)
    sound = program.read_text(encoding="utf-8")
    said = "ERROR: [042]: timeout after 60000ms waiting for read from 'localhost:8333'"
    stalled = f'case "$*" in *--type=full*) echo "{said}" >&2; exit 42;; esac\nexec'
    program.write_text(sound.replace("exec", stalled), encoding="utf-8")
    try:
        one.kept.scheduler.ask(Task.FULL)
        assert await one.kept.scheduler.look() is Task.FULL
    finally:
        program.write_text(sound, encoding="utf-8")
    attempt = one.kept.scheduler.attempts[Task.FULL]
    assert (attempt.ok, attempt.again) == (False, True)
