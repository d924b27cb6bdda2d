"""The rules of `imdsctl check`, as a table."""

from __future__ import annotations

from imdsctl.codify.findings import CodeRule, Severity

EXPOSED = CodeRule(
    "imdsv1-allowed", Severity.ERROR, "IMDSv1 is answered", "whoever can make the instance ask a URL gets its role"
)
UNKNOWN = CodeRule(
    "imds-unknown",
    Severity.WARNING,
    "nobody can tell whether IMDSv1 is answered",
    "a variable, a computed value or an image that was not looked at decides; unknown is not safe",
)
HOP_LIMIT = CodeRule(
    "hop-limit-containers",
    Severity.WARNING,
    "containers do not reach IMDSv2",
    "the answer to the token request dies one hop before the container, which then falls back to IMDSv1 or fails",
)
REGION_DEFAULT = CodeRule(
    "region-default-weak",
    Severity.ERROR,
    "a Region default that does not ask for IMDSv2",
    "every launch that says nothing gets it",
)
IMAGE = CodeRule(
    "image-without-imds-support",
    Severity.WARNING,
    "an image that does not say ImdsSupport=v2.0",
    "where the launch and the Region default say nothing, the image decides",
)
INVALID = CodeRule(
    "invalid-value", Severity.ERROR, "a value that AWS does not know", "the launch fails, or the tool drops the option"
)

RULES = (EXPOSED, UNKNOWN, HOP_LIMIT, REGION_DEFAULT, IMAGE, INVALID)
