"""Pure decisions about people, credentials and sessions: values in, values out, no database and no wire."""
