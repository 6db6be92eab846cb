"""The three services, each run in place: `python -m services.ingress`, `services.encoder`, `services.decoder`."""
