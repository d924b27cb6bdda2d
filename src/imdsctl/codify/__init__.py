"""Domain values to code and back: guardrails, policies, templates. Pure."""
