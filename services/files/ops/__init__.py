"""What can be done with files: one verb each, atomic in Postgres; bytes move between transactions, never inside."""
