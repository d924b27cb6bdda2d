"""Where an instance finds its metadata service.

Source: EC2 User Guide, "Access instance metadata for an EC2 instance".
"""

from __future__ import annotations

SERVICE_IPV4 = "169.254.169.254"
SERVICE_IPV6 = "fd00:ec2::254"
SERVICE_PORT = 80
