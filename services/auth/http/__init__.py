"""The edge's authorization check, over HTTP/1.1 on a Unix socket that only the edge can open."""
