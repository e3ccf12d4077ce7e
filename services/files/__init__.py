"""Files: each user's own tree of named files, kept byte-exact in an object store, described by rows in Postgres.

Owns: the schema `files` (tables files, versions, requests), the bucket of file bytes, the bucket of users' keys,
FileService, PUT/GET/HEAD /v1/files/… and the jobs that clean up. Does not own: who the caller is (auth), the event
stream (`events.append`), the store itself.

A write: a `pending` version row and its expiry job in one transaction → sealed bytes to `<user>/<object>/<version>` in
the store, never to local disk → one committing transaction that locks the path's row, checks the conditions, makes the
version `ready`, counts the generation up, records the audit entry and appends the event. Keys are never written twice,
and the object store arbitrates nothing: a row names every object before it exists.
A replaced version and a deleted file keep their bytes for the recovery window; a job put by the same transaction
removes them. A crash anywhere leaves a pending row whose job removes the rest.

Encryption (libs.crypto says how) is always on. Each version has a data key of its own, wrapped in its row by a key of
the user; users' keys lie in a bucket of their own, which no backup of the database holds, wrapped by root keys from the
secret file `key_encryption_keys`. So the database alone opens nothing, nor do both buckets together. Sizes and digests
in rows are the plaintext's. A range reads the segments it lies in. A user's first upload makes the first key; two at
once make two, and both stay. A key is remembered for `key_cache_seconds`.
An upload that meets a key older than `key_life_seconds` has it changed by a job: a fresh one seals, every row is
wrapped by it, and the old one goes when no backup names it any more. Root keys rotate by their file; a daily job wraps
all users' keys by the current one. Erasing a user's keys (`make erase`, job EraseFiles) leaves a mark, removes each
key and is final: rows, objects and backups stay as they are and say nothing any more; a replica may remember a key for
its while, and a download that has begun ends. There is no way back, and no new key for that user.

Sources: AIP-122, 154, 158; RFC 9110 (ranges, conditions), RFC 6266 and 8187 (names in headers), RFC 9530 (digests).
"""
