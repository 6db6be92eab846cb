"""A stack, cluster or metrics page comes in, its replicas, queues and CPU go out as samples; and clips to analyse."""
