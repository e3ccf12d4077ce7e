"""backup: backups of the whole database, and drills that prove they restore.

Owns the schema `backup` (heartbeat_counter, heartbeats, marks, drills, evidence), the operator socket, and everything
below `state_dir`: journals of backups, drills and evidence, the heartbeat ledger, the engine's lock, copies under
restore. Owns neither the repository (the engine's) nor how WAL gets there (`archive_command`, deploy/pgbackrest). The
database is a witness here, never the truth: it may be what is lost. Truth is the repository for backups, and the
journals on disk for drills and evidence.

Heartbeats. Each is a row (sequence, created_at, lsn, timeline, wal, HMAC signature) written under a locked counter: the
numbers are dense and beat k+1 begins after beat k was committed. One loop writes one each `heartbeat_seconds`; whoever
needs a moment now asks CreateHeartbeat, which also ends the WAL segment and waits until it is in the
repository. RPO exposure is the age of the newest beat whose segment is there, as the repository itself says.

Marks. Each hour a signed row says how far every tenant had come (newest event offset, file version, audit entry), read
in the transaction that writes it: whoever holds the mark must hold what it counts. A SECURITY DEFINER function of the
owner reads the numbers; they stay two days, for a copy is held to the newest mark that it holds itself.

A drill is a value that moves through select → restore → replay → promote → check → scrub → teardown; each step is in
the journal before it is taken. Whatever can be refused is refused before the first one. Light drills restore the newest
backup to the end of the archive (the RPO of now) and run daily, deep ones a random moment of all that the repository
holds, with the full checks, weekly: `ops.timetable` begins them, from what the drills' journals say of the last ones.
The copy is restored by the engine outside, and its server runs shut in: namespaces without a network and without a
sight of production's directories, one private Unix socket, archiving off; WAL comes through a socket in its own
directory from a fetcher outside.

The ladder begins when the copy says itself that recovery is over. Proof: exactly the planned heartbeats, genuine and
without hole, the log's word that recovery stopped, roles and row-level security as they should be, a probe run by the
copy's own server that must reach nothing. Data: migrations, foreign keys and sequences counted past every index, the
mark, rows of files against their objects both ways, jobs that lie still under the queue's guard. With these the RTO
ends (request to a copy that could serve); RPO = target − newest restored beat. Structure: pg_amcheck, in full drills
with every index entry and parent page. Then logins are disabled and secrets emptied, a full drill's server is shut down
for pg_checksums, and the copy is removed, which is checked. Each check has a count, a time and a verdict: ok, failed,
or not made, with the reason; a question the copy could not answer has failed. What past drills took foretells a restore
now (`domain.forecast`), and each drill keeps what was foretold of it, so that the error is known.

Evidence. Whatever proves or disproves recovery, failures too, is one record in `state_dir`/evidence before anybody is
told of it: holdfast.evidence says what a record is, byte for byte. `Evidence.append` is the one call; the same kind and
subject told again is nothing, so what was found dead or is older than evidence is told at each start. Writers share one
chain under a lock on its file, and what dies there leaves no half a record that is believed. The file is complete by
itself. The database (rows that nobody may change) and an off-site bucket (an identity that only puts; versions, each
locked for 1200 days, which also the identity that made the bucket cannot lift) get what they have not got yet, each in
its own loop, for as long as it takes; a database that was restored is filled up again, and a journal that was set back
gets from the database what it lost. Nothing removes a record. A changed signing key continues the chain; every public
key that signed it is in keys.pem. A journal that is not what was signed takes no more: status warns, records wait in
memory and are in the log; put the directory aside for a new chain, or the bucket's records in its place to go on.

Death. A drill's processes are bound to this one by the kernel; at the next start the keeper ends what is left, removes
every directory, and marks what was unfinished FAILED.

Sources: PostgreSQL manual, chapters 26 and 27; pgBackRest user guide and command reference; SRE book, chapter 26.
"""
