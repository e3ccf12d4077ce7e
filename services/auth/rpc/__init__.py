"""auth's gRPC servicers: parse, call one operation, convert."""
