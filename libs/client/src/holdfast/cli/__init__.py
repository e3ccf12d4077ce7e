"""The `holdfast` command: sign in, files, events, mail, keys; for operators backup, drill, recovery, jobs and more.

Data goes to stdout, messages to stderr. `--json` makes stdout one JSON value (one a line for streams). Colour only on
a terminal and never with NO_COLOR. Exit codes are stable:

0 done · 1 it ended badly · 2 wrong usage · 3 refused, the reason is printed · 4 cannot be reached: try again
5 not signed in · 6 a fault of the server (tell the request id) · 130 interrupted

Further groups live in modules of this package named in `OPTIONAL`: a module with a click command of the same name is
registered when it can be imported.
"""

import importlib.util

import click

from holdfast.cli import events, files, keys, mail, session
from holdfast.cli.run import Options

OPTIONAL = ("backup", "drill", "recovery", "evidence", "escrow", "jobs")

HELP = """Holdfast from the command line.

Exit codes: 0 done, 1 it ended badly, 2 wrong usage, 3 refused, 4 cannot be reached (try again), 5 not signed in,
6 a fault of the server, 130 interrupted."""


@click.group(help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--stack", metavar="FILE", envvar="HOLDFAST_STACK", help="stack.json; default: nearest .holdfast/stack.json."
)
@click.option("--edge", metavar="URL", envvar="HOLDFAST_EDGE", help="Address of an edge elsewhere, https://host:port.")
@click.option("--ca-file", metavar="FILE", envvar="HOLDFAST_CA_FILE", help="PEM of the authority to believe.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable answers on stdout.")
@click.version_option(package_name="holdfast-client")
@click.pass_context
def main(context: click.Context, stack: str | None, edge: str | None, ca_file: str | None, as_json: bool) -> None:
    """Holdfast from the command line."""
    context.obj = Options(stack or "", edge or "", ca_file or "", as_json)


def _register() -> None:
    entry = (session.register, session.verify, session.login, session.logout, session.whoami)
    for command in (*entry, mail.mail, files.files, events.events, keys.keys):
        main.add_command(command)
    for name in OPTIONAL:
        if importlib.util.find_spec(f"{__name__}.{name}") is not None:
            main.add_command(getattr(importlib.import_module(f"{__name__}.{name}"), name))


_register()
