"""AWS CloudTrail of the local AWS: the event history of every management call that was made to it."""
