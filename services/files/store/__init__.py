"""Queries on the schema `files`. Row-level security is the tenant filter; no query repeats it."""
