"""backup: backups of the whole database, and drills that prove they restore.

Owns the schema `backup` (heartbeat_counter, heartbeats, marks, exposures, drills, evidence), the operator socket, and
everything below `state_dir`: journals of backups, drills, evidence, attempts, conditions and breaches, the heartbeat
ledger, the engine's lock, copies under restore. Owns neither the repository (the engine's) nor how WAL gets there
(`archive_command`, deploy/pgbackrest). The database is a witness here, never the truth: it may be what is lost. Truth
is the repository for backups, and the journals on disk for drills and evidence.

Heartbeats. Each is a row (sequence, created_at, lsn, timeline, wal, HMAC signature) written under a locked counter: the
numbers are dense and beat k+1 begins after beat k was committed. One loop writes one each `heartbeat_seconds`; whoever
needs a moment now asks CreateHeartbeat, which also ends the WAL segment and waits until it is in the
repository. RPO exposure is the age of the newest beat whose segment is there, as the repository itself says.

Jobs. The operators' plane for every service's queue (JobService), through functions of the owner that each do one
thing. Before each beat the database is compared with the ledger: one that lacks the newest beat known here has gone
back in time, so the guard is held, nothing is claimed, and what was put before is quarantined until an operator
releases it. A new timeline with every beat is a failover and accepted; without a ledger nothing vouches for it. The
epoch of event streams is changed with the hold, once per restore.

Keeping (ops.keeping). What is due follows from the repository alone (`domain.schedule`): a slot is filled when a good
backup began in it, whoever took it; only the newest slot counts, so what was missed is caught up with once, and a clock
that jumps neither stalls nor storms. Expiry and verification have timers of their own and need no database. Of each
task the last attempt is kept on disk. A fault that may pass (exit codes 49, 50, 56, 82, 101) is tried again after one
minute and then more slowly; any other is a condition for a person and waits. Writers of the repository stand behind
`adapters.exclusive`: a lock of a Postgres session, which every host sees, and the file of this one; whoever gets it
looks again whether the work is still to be done, and who loses it to another host breaks off. The server's identity is
compared with the stanza's: it is made or upgraded, and a full backup follows at once.

A result is believed when exit code, status code, the backup's error flag and the words of `verify` agree; silence is a
fault. Backups are never resumed: what a broken off one left is removed by the next one or by expiry. Retention: the
engine keeps 28 days at least; what would pass 30 before the next expiry is swept with the WAL only it needed, never the
last good full one, which is a critical condition then. The proof is the list of all objects (`domain.listing`), not the
engine's own. Three identities, three files: one reads, one adds, and only the keeper's deletes (expiry, clearing up).

The watch looks each minute: exposure goes to disk and to `exposures` (35 days, a minute a row). Each quarter of an hour
it lists the archive: a segment missing between others, seen twice and not waiting on the server, or named as dropped in
the engine's log, breaks the RPO. The breach is recorded with the interval that is lost (from the newest heartbeat
before the hole to the end of the next good full backup, which is taken at once); until then status ends where the hole
begins. What stands wrong is a condition: kept on disk, told in status, metrics and log.

Marks. Each hour a signed row says how far every tenant had come (newest event offset, file version, audit entry), read
in the transaction that writes it: whoever holds the mark must hold what it counts; one that counts nothing vouches for
nothing. A SECURITY DEFINER function of the owner reads the numbers; they stay two days, for a copy is held to the
newest mark that it holds itself.

A drill is a value that moves through select → restore → replay → promote → check → [smoke →] scrub → teardown; each
step is in the journal before it is taken. Whatever can be refused is refused before the first one. Light drills restore
the newest backup to the end of the archive (the RPO of now) and run daily, deep ones a random moment of all that the
repository holds, with the full checks, weekly: `ops.timetable` begins them, from what the drills' journals say of the
last ones. A chosen one takes a backup, a moment or an LSN; what no two heartbeats of one timeline enclose is refused.
One that somebody cancels fails as that, or as what its checks had found by then, and removes its copy at once. The copy
is restored by the engine outside, and its server runs shut in: namespaces without a network and without a sight of
production's directories, one private Unix socket, archiving off; WAL comes through a socket in its own directory from a
fetcher outside, which in a long replay fetches two segments ahead.

The ladder begins when the copy says itself that recovery is over. Proof: exactly the planned heartbeats, genuine and
without hole, the log's word that recovery stopped, roles and row-level security as they should be, a probe run by the
copy's own server that must reach nothing. Data: migrations, foreign keys and sequences counted past every index, the
mark, rows of files against their objects both ways, jobs that lie still under the queue's guard. With these the RTO
ends (request to a copy that could serve); RPO = target − newest restored beat. Objects are in no backup, so theirs is 0
while each sampled row has its object and deletes wait for longer than the copy is old; else it reaches back to the
oldest row without one, and what no drill could look at is unknown (`domain.object_rpo`). Structure: pg_amcheck, in full
drills with every index entry and parent page. Full drills smoke then: the real auth, files and events, outside the
namespaces, on the copy's socket and none but Unix sockets of the drill, with the reading identities of the object store
and no mail, sign in the canary (set-up's own organization), read its file and its first event, and are gone before the
phase ends. In a copy older than the canary or without its description that is not made. Then logins are disabled and
secrets emptied, a full drill's server is shut down for pg_checksums, and the copy is removed, which is checked. Each
check has a count, a time and a verdict: ok, failed, or not made, with the reason; a question the copy could not answer
has failed. What past drills took foretells a restore now (`domain.forecast`), and each drill keeps what was foretold of
it, so that the error is known.

Escrow (holdfast.escrow says what it holds). This service sees keyed digests alone, written by whoever owns the secrets:
no escrow, or one that differs from what is installed, is a warning and `holdfast_backup_escrow_stale`. A deep drill
chooses its moment by what this host knows; then it reads the repository, fetches WAL and judges heartbeats with what an
operator opened in `escrow_opened` and nothing else. Without one, or with one of another repository, its check `escrow`
is not made; one that does not open the repository fails the drill. Then it opens one restored file (`file_opens`): row
from the copy, bytes and its user's key from the store by identities that read, root keys from the escrow alone; the
digest has to be the restored row's. Files of erased keys are passed over, and nothing may be left of such keys.

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
