"""Policies to simulate, out of files and out of a stored scan's organization."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from imdsctl.adapters.utf8_text import NotText, decoded
from imdsctl.codify.policy_set import FULL_ACCESS, FULL_ACCESS_NAME, PolicySet, Written, with_full_access, written
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError, Severity
from imdsctl.domain.observations import PolicyKind as SeenKind
from imdsctl.domain.observations import PolicySeen, Scan
from imdsctl.policy.declarative import NOTHING_DECLARED, EffectivePolicy, effective_policy, parse_declarative_policy
from imdsctl.policy.document import PolicyKind
from imdsctl.policy.problems import MalformedPolicy

POLICY_BYTES_MAX = 1 << 20


def read_policies(paths: Iterable[Path], kind: PolicyKind) -> tuple[Written, ...]:
    """The policies in files. Raises DiagnosticError (exit code 2) with everything that is wrong with any of them."""
    found: list[Written] = []
    problems: list[Diagnostic] = []
    for path in paths:
        try:
            found.append(written(_text(path), name=path.name, kind=kind))
        except MalformedPolicy as error:
            problems += _malformed(path, error)
        except DiagnosticError as error:
            problems += error.diagnostics
    if problems:
        raise DiagnosticError(problems, exit_code=2)
    return tuple(found)


def read_declarative(paths: Sequence[Path]) -> EffectivePolicy:
    """What EC2 policies in files come to, each file a level below the one before. Raises DiagnosticError."""
    levels = []
    problems: list[Diagnostic] = []
    for path in paths:
        try:
            levels.append([parse_declarative_policy(_text(path), name=path.name)])
        except MalformedPolicy as error:
            problems += _malformed(path, error)
        except DiagnosticError as error:
            problems += error.diagnostics
    if problems:
        raise DiagnosticError(problems, exit_code=2)
    return effective_policy(levels) if levels else NOTHING_DECLARED


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise DiagnosticError(Diagnostic("policy-file-unreadable", why, str(path), "name a JSON file")) from None
    if len(data) > POLICY_BYTES_MAX:
        why = f"it has {len(data):,} bytes, and no policy has more than a few thousand"
        raise DiagnosticError(Diagnostic("policy-file-unreadable", why, str(path), "name a policy"))
    try:
        return decoded(data)
    except NotText as error:
        place = f"{path}:{error.line}:{error.column}"
        raise DiagnosticError(Diagnostic("policy-file-unreadable", str(error), place)) from None


def _malformed(path: Path, error: MalformedPolicy) -> list[Diagnostic]:
    return [
        Diagnostic(
            "policy-file-malformed",
            each.message,
            f"{path}: {each.path}" if each.path else str(path),
            "correct it: AWS would refuse it",
        )
        for each in error.problems
    ]


def of_scan(scan: Scan, account_id: str, above: Sequence[str]) -> tuple[PolicySet, list[Diagnostic]]:
    """The SCPs and the effective EC2 policy of an account, as a scan saw them; warnings for what it cannot tell.

    A scan knows no ids of units above an account: `above` names them, from the root down. Raises DiagnosticError.
    """
    if account_id not in {each.account_id for each in scan.accounts}:
        diagnostic = Diagnostic("account-unknown", f"scan {scan.scan_id} has no account `{account_id}`")
        raise DiagnosticError(diagnostic, exit_code=2)
    scps = [each for each in scan.policies if each.kind is SeenKind.SERVICE_CONTROL_POLICY]
    roots = sorted({target for each in scps for target in each.targets if target.startswith("r-")})
    levels = tuple(
        (target, tuple(_seen(each) for each in scps if target in each.targets))
        for target in (*roots, *above, account_id)
    )
    elsewhere = {
        target: each.name
        for each in scps
        if not each.aws_managed
        for target in each.targets
        if target.startswith("ou-") and target not in above
    }
    warnings = [
        Diagnostic(
            "policy-place-unknown",
            f"the SCP {name} is attached to a unit, and the scan does not say whether account {account_id} is below it",
            target,
            f"if it is, name the unit with `--above {target}`",
            Severity.WARNING,
        )
        for target, name in sorted(elsewhere.items())
    ]
    effective = dict(scan.effective_policies).get(account_id)
    return (
        PolicySet(scps=levels if scps else None, declarative=_declared(effective)),
        warnings,
    )


def _seen(policy: PolicySeen) -> Written:
    if policy.aws_managed and policy.name == FULL_ACCESS_NAME:
        return written(FULL_ACCESS, name=FULL_ACCESS_NAME, kind=PolicyKind.SCP)
    try:
        return written(policy.content, name=policy.name, kind=PolicyKind.SCP)
    except MalformedPolicy as error:
        raise DiagnosticError(
            Diagnostic("policy-file-malformed", str(error)[:300], f"{policy.name} ({policy.policy_id})")
        ) from None


def _declared(effective: str | None) -> EffectivePolicy:
    """An effective policy's document is values without operators: each is assigned once."""
    if effective is None:
        return NOTHING_DECLARED
    import orjson

    def assigned(value: object) -> object:
        if isinstance(value, dict):
            return {name: assigned(each) for name, each in value.items()}
        return {"@@assign": value}

    try:
        return effective_policy([[parse_declarative_policy(assigned(orjson.loads(effective)), name="effective")]])  # type: ignore[arg-type]
    except (MalformedPolicy, orjson.JSONDecodeError):
        return NOTHING_DECLARED


def scp_level(policies: Sequence[Written]) -> tuple[tuple[str, tuple[Written, ...]], ...]:
    """SCPs of files as one level, with FullAWSAccess beside those that only deny."""
    return (("--scp", with_full_access(policies)),)
