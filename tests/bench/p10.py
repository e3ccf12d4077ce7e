"""P10: `make up` of an installed stack to all well, beside its bare parts started by hand; its memory at rest."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator

from tests.bench import hand, memory
from tests.bench.own_stack import own_stack, seconds
from tests.bench.row import Row, judged, listed, middles, pairs
from tests.support.stack import ROOT, Stack

ID = "P10"
REST_SECONDS = 10.0
"""Between `up` and the reading of memory: what only a start needs may be given back by then."""
PUBLISHED = "Supabase self-hosted, published"


def up_seconds(stack: Stack) -> tuple[float, dict[str, float]]:
    """Seconds that `make up` takes from a stack that is down, and those of each of its steps."""
    assert not stack.supervisor.states()
    setup = seconds(lambda: subprocess.run(["make", "-s", "setup"], cwd=ROOT, check=True, stdout=sys.stderr))
    ended: list[subprocess.CompletedProcess[str]] = []
    taken = seconds(lambda: ended.append(stack.command("up", "--no-tour", FORMAT="json")))
    assert ended[0].returncode == 0, ended[0].stdout + ended[0].stderr
    steps = {step["name"]: step["ms"] / 1000 for step in json.loads(ended[0].stdout)["steps"]}
    steps |= {"load and report": taken - sum(steps.values()), "setup": setup}
    return setup + taken, steps


def down(stack: Stack) -> None:
    """Stop it, its data kept."""
    done = stack.command("down")
    assert done.returncode == 0, done.stdout + done.stderr


def memory_mib(stack: Stack) -> dict[str, float]:
    """MiB of each part with all its processes, and of the supervisor."""
    time.sleep(REST_SECONDS)
    pids = {name: state["pid"] for name, state in stack.supervisor.states().items()}
    supervisor = int((stack.layout.run / "supervisor.pid").read_text(encoding="ascii"))
    found = {name: sum(map(memory.pss_mib, memory.descendants(pid))) for name, pid in pids.items()}
    return found | {"supervisor": memory.pss_mib(supervisor)}


def run(rounds: int) -> Iterator[Row]:
    """Every figure of P10."""
    ours: list[float] = []
    theirs: list[float] = []
    steps: list[dict[str, float]] = []
    bare_steps: list[dict[str, float]] = []
    resting: list[dict[str, float]] = []
    with own_stack() as stack:
        for _ in range(rounds):
            down(stack)
            bare_steps.append(hand.start_seconds(stack.parts))
            theirs.append(sum(bare_steps[-1].values()))
            taken, phases = up_seconds(stack)
            ours.append(taken)
            steps.append(phases)
            resting.append(memory_mib(stack))
        versions = hand.versions(stack.parts)
    spent = f"up: {listed(middles(steps), 's')}; by hand: {listed(middles(bare_steps), 's')}"
    yield judged(
        "≤ 1.5", id_=ID, metric="up to all well, data there", unit="s", ours=ours, theirs=theirs,
        beside=f"{versions}, one after the other by hand", conditions=f"{spent}; each round {pairs(ours, theirs)}",
    )  # fmt: skip
    yield judged(
        "< 30", id_=ID, metric="up to all well, data there", unit="s", ours=ours,
        beside=f"a limit; {PUBLISHED}: 37 s", conditions=f"slowest round {max(ours):.1f} s",
    )  # fmt: skip
    yield judged(
        "< 1.0", id_=ID, metric="memory at rest (PSS)", unit="GiB",
        ours=[sum(figure.values()) / 1024 for figure in resting],
        beside=f"a limit; {PUBLISHED}: 4 GB",
        conditions=f"{REST_SECONDS:g} s after up, all processes: {listed(middles(resting), 'MiB', 0)}",
    )  # fmt: skip
