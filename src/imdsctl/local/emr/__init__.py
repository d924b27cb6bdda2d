"""Amazon EMR: security configurations, and which clusters use them."""
