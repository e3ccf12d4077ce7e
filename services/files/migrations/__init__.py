"""The schema `files`, expand and contract only; run as the owner role."""
