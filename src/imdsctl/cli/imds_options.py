"""The options of a metadata service that `imds serve` and `run` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imdsctl.domain.options import HOP_LIMIT_MAX, HOP_LIMIT_MIN, HttpTokens, Switch

HttpTokensOption = Annotated[
    HttpTokens | None, typer.Option("--http-tokens", help="`required` refuses IMDSv1.", show_default="optional")
]
HopLimitOption = Annotated[
    int | None,
    typer.Option(
        "--hop-limit",
        min=HOP_LIMIT_MIN,
        max=HOP_LIMIT_MAX,
        help="How many hops a token gets; the kernel holds to it.",
        show_default="1",
    ),
]
HttpEndpointOption = Annotated[
    Switch | None, typer.Option("--http-endpoint", help="`disabled` answers 403.", show_default="enabled")
]
MetadataTagsOption = Annotated[bool, typer.Option("--metadata-tags", help="Show the instance's tags.")]
RoleOption = Annotated[str | None, typer.Option("--role", metavar="NAME", help="The role of its instance profile.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="More of the instance, in TOML (docs/guide.md); options here win."),
]
