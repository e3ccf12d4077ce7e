"""How Holdfast runs."""
