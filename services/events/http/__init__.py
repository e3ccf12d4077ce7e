"""GET /v1/events: a user's stream as server-sent events. Source: WHATWG HTML, section Server-sent events."""
