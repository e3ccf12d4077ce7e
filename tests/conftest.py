"""Fixtures every test may ask for; each lives with the part it runs, in tests/support."""

pytest_plugins = [
    "tests.support.promises",
    "tests.support.postgres",
    "tests.support.seaweed",
    "tests.support.stack",
    "tests.support.events",
    "tests.support.files",
    "tests.support.auth",
]
