"""Schema backup: heartbeats and their counter, and the mirror of what the drills' journals say."""
