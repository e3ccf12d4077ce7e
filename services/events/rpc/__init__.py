"""holdfast.events.v1 over gRPC."""
