"""Migrations of the schemas jobs and audit, which every service uses and none owns."""
