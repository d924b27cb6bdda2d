"""The metadata service of an instance as a state machine: requests and time in, replies out. Pure; it opens nothing."""
