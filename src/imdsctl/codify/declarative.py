"""An intent as a declarative policy of AWS Organizations ("EC2 policy").

Source: AWS Organizations User Guide, "EC2 policy syntax and examples", "Inheritance operators". It is enforced in EC2
itself, for service-linked roles and the management account too, in every Region and for accounts that join later;
detaching it brings each account's own setting back.
"""

from __future__ import annotations

import json
from typing import Any

from imdsctl.domain.intent import Intent
from imdsctl.policy.declarative import ASSIGN, CHILD_CONTROL, EXCEPTION_MESSAGE, METADATA_DEFAULTS, ROOT_ELEMENT


def declarative_policy(intent: Intent, *, message: str | None = None, lock: bool = False) -> dict[str, Any]:
    """The policy document for what an intent wants of Region defaults.

    What the intent leaves alone is not in it. `message` is what an account reads when it is refused; with `lock` nobody
    further down can set it differently.
    """
    wanted = intent.region_defaults
    settings: dict[str, Any] = {}
    if wanted.options.http_tokens is not None:
        settings["http_tokens"] = str(wanted.options.http_tokens)
    if wanted.hop_limit_at_least is not None:
        settings["http_put_response_hop_limit"] = str(wanted.hop_limit_at_least)
    if wanted.options.http_endpoint is not None:
        settings["http_endpoint"] = str(wanted.options.http_endpoint)
    if wanted.options.instance_metadata_tags is not None:
        settings["instance_metadata_tags"] = str(wanted.options.instance_metadata_tags)
    if intent.enforce:
        settings["http_tokens_enforced"] = "enabled"
    attributes: dict[str, Any] = {METADATA_DEFAULTS: {name: _assigned(value, lock) for name, value in settings.items()}}
    if message:
        attributes[EXCEPTION_MESSAGE] = _assigned(message, lock)
    return {ROOT_ELEMENT: attributes}


def declarative_text(policy: dict[str, Any]) -> str:
    """For a reader, and to be attached."""
    return json.dumps(policy, indent=2) + "\n"


def _assigned(value: str, lock: bool) -> dict[str, Any]:
    return {ASSIGN: value} | ({CHILD_CONTROL: ["@@none"]} if lock else {})
