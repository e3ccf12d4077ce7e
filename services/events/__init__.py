"""A durable stream of events for each user, over server-sent events and gRPC.

Owns the schema `events`: `streams` (each user's newest and oldest offset), `entries` (the events), `epoch` (which
life of the database the offsets belong to), `leases` (open streams of all replicas), `requests`
(libs.idempotency). Does not own who may sign in (auth), and takes nobody's word for a user but the verified user token.

Appending. `events.append(organization, user, type, data)` runs in the publisher's own transaction: it takes the
user's counter row until commit, so offsets are dense and in order of commit, a rollback leaves no hole, and a reader
that has seen offset n has seen all before it. It refuses any organization or user but the armed one. Other services
call it through `libs.eventlog`. After the commit a wake-up names the user; it may be lost.

Following. One hub per replica listens for wake-ups and polls the counters of everybody connected in one query;
streams that have moved are read once, under their own user's row-level security, and handed to all of that user's
readers. A reader has no queue: one that falls behind is served from the shared memory or the log, so replay and live
are one path without hand-over. The event's user is compared with the connection's at the last line before each write.

Resuming. `<epoch>.<offset>` is the resume token and the SSE `id`. Whatever cannot be continued without a gap is told
in the stream as a reset: epoch_changed (the backup service begins a new epoch in a database that it finds restored),
too_old, unknown.

Ending. Sessions are asked about in one batch every `session_check_seconds`; a revoked one ends its streams within 15
s. While auth is away streams go on for `session_grace_seconds` after their last good answer, while the database is
away for `database_grace_seconds`; both then end as "unavailable". Temporary refusals are 200 with `retry:` and
`event: refused` over SSE, because any other status ends a browser's EventSource for good.

Sources: WHATWG HTML (server-sent events), AIP-155, AIP-193; the streams' rules are in design/style.md section 1.
"""
