"""gRPC servicers of the backup service: parse, call one operation, convert."""
