"""The tour on a stack of its own."""

import pytest

from deploy.stack import tour
from tests.support.stack import Stack


@pytest.mark.stack
def test_the_tour_shows_what_it_says(stack: Stack) -> None:
    told: list[tour.Step] = []
    report = tour.run(stack.where(), told.append)
    assert report.ok, [step for step in report.steps if not step.ok]
    assert told == report.steps
    assert report.delivery_ms is not None
    assert report.rpo_seconds is not None
    assert report.rto_seconds is not None


@pytest.mark.stack
def test_a_tour_of_a_broken_stack_fails_and_says_where(stack: Stack) -> None:
    """The control: the same tour at an address where nothing listens is not ok."""
    where = stack.where()
    broken = tour.Where("https://127.0.0.1:9", where.ca_file, where.mail_dir, where.operator_socket, lambda _: None)
    report = tour.run(broken, lambda _: None)
    assert not report.ok
    assert report.steps[0].name.startswith("register")
    assert not report.steps[0].ok
