"""SQL that makes the roles, schemas and privileges of a database."""
