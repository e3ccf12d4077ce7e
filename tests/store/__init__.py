"""Tests of what is stored and who sees it, on a real Postgres."""
