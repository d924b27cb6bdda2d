"""Amazon ECS of the local AWS: clusters, and which EC2 instances are the hosts of their containers."""
