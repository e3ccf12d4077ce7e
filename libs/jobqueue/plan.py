"""The plan of the queue's statements, held fast: counts of a queue change faster than statistics can follow."""

from sqlalchemy import text

PINNED = text(
    "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),"
    " set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),"
    " set_config('jit', 'off', true)"
)
"""For the rest of the transaction: index scans and nested loops only, however empty or full the tables look."""

RUNNING = "j.state || '' = 'running'"
"""That j runs, said so that no partial index answers it: only its id finds such a row. While few jobs are thought to
run, walking the index of all that do would seem cheaper, and that one holds each job that ever ran and cannot be
cleaned away yet.
"""
