"""Tests; `support` holds what they share."""
