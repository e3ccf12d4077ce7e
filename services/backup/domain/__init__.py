"""Pure decisions about backups, heartbeats and drills: no transport, no database, no processes."""
