"""The rows of schema `auth`: queries, their locks and their order. No policy: row-level security and domain decide."""
