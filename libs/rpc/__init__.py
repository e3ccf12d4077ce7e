"""What the four services share on the gRPC wire.

- errors: AppError to google.rpc.Status and to its HTTP equal, one table
- policy: what every method and HTTP route declares about itself, read from the contract
- validate: the contract's field bounds, compiled at start
- stages: the one interceptor that runs every call through named stages in a fixed order
- server, health, channel: the Part that serves, the components it reports, and the way to call another service
- exchange: the token with which a job calls another service as its user

Depends on gRPC and the generated stubs; domain and store rooms never import it.
"""
