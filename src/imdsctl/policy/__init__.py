"""The IAM policy language and the inheritance of declarative policies: documents in, decisions out. Pure."""
