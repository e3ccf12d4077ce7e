"""The schema `events`."""
