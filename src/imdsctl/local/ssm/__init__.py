"""AWS Systems Manager of the local AWS: its Parameter Store, and the public parameters that name AWS's images."""
