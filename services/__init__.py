"""The three services, each run in place: `python -m services.ingress`, `services.encoder`, `services.decoder`."""

import os

# Before grpc is imported: its core would write lines of its own, which are not JSON, for every failed handshake.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
