"""Amazon CloudWatch of the local AWS: metrics that anybody publishes, and the evidence of IMDSv1 use of the fleet."""
