"""PUT, GET and HEAD /v1/files/<path>: the way browsers move bytes, since gRPC-web cannot stream requests."""
