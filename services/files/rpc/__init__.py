"""FileService on gRPC: parse, call one operation, convert."""
