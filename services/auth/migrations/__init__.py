"""The schema `auth`, expand and contract only; run as the owner role, before every other service's tree."""
