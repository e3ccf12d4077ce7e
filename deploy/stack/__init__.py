"""How Holdfast runs on one machine: the parts, their order, their health. `python -m deploy.stack --help` lists the
verbs.

Owns everything below the stack's *home* (`.holdfast`, or wherever HOLDFAST_HOME points): ports, secrets,
certificates, configuration files, the supervisor, and `stack.json`. The programs come from two environments in the
home of the checkout: `venv` (the services and this package, installed) and `tools` (Envoy, SeaweedFS, supervisor),
see deploy.stack.install.

`stack.json` (mode 0644, no secrets) says where the running stack is; schema, version 1:

    version        1
    revision       hash of the sources that were installed
    name           short name of the stack, the last part of its run directory
    edge_url       https://127.0.0.1:PORT, the only way in from beyond this machine's private network
    ca_file        PEM of the certificate authority that signed the edge's and the object store's certificates
    state_dir      directory of all data, mode 0700
    run_dir        directory of the Unix sockets
    services       {"auth"|"files"|"events"|"backup": {"grpc": target, "http": target or "", "metrics": "HOST:PORT"}};
                   a target is `unix:/path` or `host:port`
    postgres       {"socket_dir", "port", "database"}
    s3             {"endpoint", "ca_file"}
    mail_dir       directory in which the catcher writes each mail as one .eml file
    operator_socket  Unix socket of the operators' gRPC services
    evidence_key_file  PEM of the public keys of evidence, for `holdfast evidence verify`
    cli            path of the `holdfast` launcher
    pids           {part: process id} at the time of writing
"""
