"""The metadata services of the local AWS's instances: what they show, whom they give credentials, what is counted."""
