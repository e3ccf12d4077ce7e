"""Jobs: arguments in, one operation called."""
