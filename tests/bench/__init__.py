"""Benchmarks beside a peer in the same run; never part of `make test`.

`python -m tests.bench [--quick] [--only P5,P9] [--json]` runs them. A bar is a module with `ID` and
`run(rounds: int) -> Iterator[Row]`; a row is one figure beside its peer, as the ratio of medians over rounds in turn.
"""
