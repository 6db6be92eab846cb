"""What the autoscaling would do under a given load: a model of KEDA, the HPA and our three services, without any."""
