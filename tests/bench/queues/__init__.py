"""Job queues side by side: each module named after a queue is its program, run in the interpreter that has it.

`python -m tests.bench.queues.<queue> put|drain|produce|one|consume …`; see contract. Around them: environment makes the
interpreter of the peers, server the Postgres they share, side runs the programs, raw is the limit by pgbench.
"""
