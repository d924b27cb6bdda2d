"""Amazon Lightsail: instances with a metadata service and options of their own, which EC2 does not show."""
