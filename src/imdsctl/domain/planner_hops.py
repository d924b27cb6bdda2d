"""The hop limit: planned with the tokens, because a container one hop further on loses them when it is too low."""

from __future__ import annotations

from imdsctl.domain.intent import Intent, Wanted

HOP_LIMIT_PLAIN = 1
"""What a host needs that runs no containers: the API's own default."""


def hop_limit(
    wanted: Wanted, now: int | None, container: str | None, intent: Intent, *, tokens_change: bool
) -> tuple[int | None, str]:
    """The hop limit to set, None to leave it, and the rule that decided when it is set.

    `now` is today's (None: unknown), `container` why containers run there (None: nothing says so), `tokens_change`
    whether this plan takes IMDSv1 away. A lower number than today's comes only from `hop-limit-exactly`.
    """
    if wanted.hop_limit_exactly is not None:
        if wanted.hop_limit_exactly == now:
            return None, ""
        return wanted.hop_limit_exactly, f"hop limit {wanted.hop_limit_exactly}: the intent says exactly that"
    floor, rule = _floor(wanted, container, intent, tokens_change)
    if floor is None or (now is not None and now >= floor):
        return None, ""
    return floor, rule


def _floor(wanted: Wanted, container: str | None, intent: Intent, tokens_change: bool) -> tuple[int | None, str]:
    needed = intent.container_hop_limit_at_least
    if wanted.hop_limit_auto:
        if container is None:
            return HOP_LIMIT_PLAIN, f"hop limit auto: {HOP_LIMIT_PLAIN}, for nothing says that containers run here"
        return needed, f"hop limit auto: {needed} for a container host ({container})"
    floor = wanted.hop_limit_at_least
    if container is not None and tokens_change and needed is not None and needed > (floor or 0):
        return needed, f"hop limit {needed} for a container host ({container}), whose containers need it to get a token"
    return floor, f"hop limit {floor}: the intent says at least that"
