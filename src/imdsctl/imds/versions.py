"""The versions of the metadata: the first segment of every path."""

from __future__ import annotations

LATEST = "latest"

VERSIONS = (
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "2011-01-01",
    "2011-05-01",
    "2012-01-12",
    "2014-02-25",
    "2014-11-05",
    "2015-10-20",
    "2016-04-19",
    "2016-06-30",
    "2016-09-02",
    "2016-11-15",
    "2018-03-28",
    "2018-05-23",
    "2018-08-17",
    "2018-09-24",
    "2019-10-01",
    "2020-08-24",
    "2020-10-27",
    "2020-11-01",
    "2021-01-03",
    "2021-03-23",
    "2021-07-15",
    "2022-09-24",
    LATEST,
)
"""As `/` lists them. They compare as text: `1.0` is the oldest, `latest` the newest.

Source: EC2 User Guide, "Access instance metadata for an EC2 instance" (the list's beginning) and "Instance metadata
categories" (the version that introduced each category); 2016-09-02, 2018-03-28 and 2018-09-24 are those that real
clients ask for.
"""

KNOWN_VERSIONS = frozenset(VERSIONS)
