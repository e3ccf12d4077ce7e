"""The plan of the queue's statements, held fast: counts of a queue change faster than statistics can follow."""

RUNNING = "j.state || '' = 'running'"
"""That j runs, said so that no partial index answers it: only its id finds such a row. While few jobs are thought to
run, walking the index of all that do would seem cheaper, and that one holds each job that ever ran and cannot be
cleaned away yet.
"""
