"""Tests of the job queue, with real processes where it matters."""
