"""Amazon AppStream 2.0 (WorkSpaces Applications): fleets and builders, and whether they answer IMDSv1."""
