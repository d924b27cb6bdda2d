"""One Linux host: network namespaces for `imdsctl run`, capture and attribution for `imdsctl trace`."""
