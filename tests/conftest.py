"""Fixtures every test may ask for; each lives with the part it runs, in tests/support."""

from hypothesis import settings

# A machine that stalls for 200 ms finds no fault, and what fails once is to fail again.
settings.register_profile("here", deadline=None, derandomize=True)
settings.load_profile("here")

pytest_plugins = [
    "tests.support.promises",
    "tests.support.postgres",
    "tests.support.seaweed",
    "tests.support.stack",
    "tests.support.events",
    "tests.support.files",
    "tests.support.auth",
]
