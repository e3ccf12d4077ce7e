"""What the services say about themselves: logs, metrics, traces, joined by request id and trace id.

`context` carries the ids, `log` prints them redacted, `metric` counts on a private listener, `trace` exports only when
an OTLP endpoint is set, `redact` decides what may be shown, `names` holds the semantic-convention names once.
"""
