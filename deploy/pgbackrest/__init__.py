"""pgBackRest's configuration: one file per identity, rendered with every option explicit, never a default that moves.

`conf.render` makes the text, `conf.write` the 0600 file. Production's file has the identity that may write; the drills'
file is the same with a read-only identity, so that no mistake in a copy can touch the repository.
"""
