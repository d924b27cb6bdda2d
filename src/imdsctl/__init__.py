"""imdsctl makes IMDSv2 the enforced rule in every Region of every AWS account."""

__version__ = "0.1.0"
