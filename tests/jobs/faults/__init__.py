"""Faults done to real workers and a real Postgres, judged from what the database accepted (history, recorder)."""
