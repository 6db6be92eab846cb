"""Why each service has the number of replicas that it has: read from the cluster, worked out, told."""
