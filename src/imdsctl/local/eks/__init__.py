"""Amazon EKS of the local AWS: clusters, and node groups with the launch template that decides their nodes' IMDS."""
