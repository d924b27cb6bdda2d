"""AWS protocols compiled from botocore's service models: bytes in, values out, and back. Pure."""
