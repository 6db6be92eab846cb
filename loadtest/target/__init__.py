"""The target of a load test: a stack on this machine, clips, and sources of samples of replicas and queues."""
