"""Queries over the schema `events`; row-level security does the filtering by user."""
