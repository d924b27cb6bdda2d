"""The user's own credentials, found as every AWS tool finds them and refreshed when they run out.

Source: https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
"""

from __future__ import annotations

import asyncio
import os
from datetime import datetime
from typing import Any

from imdsctl.adapters.profile import Profile
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.fleet.ports import Credentials


class OwnCredentials:
    """The credentials of one profile; botocore's chain (files, SSO, process, web identity, container, instance)."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._found: Any = None

    def current(self) -> Credentials:
        """Credentials that are good now. May ask the network when they have to be fetched or refreshed.

        Raises `DiagnosticError`: `credentials-missing` when nothing offers any, `credentials-unusable` when what
        offers them fails.
        """
        plain = self._from_environment() if self._found is None else None
        found = plain or self._from_botocore()
        if all(each.isascii() for each in (found.access_key, found.secret_key, found.token or "")):
            return found
        raise DiagnosticError(
            Diagnostic(
                "credentials-unusable",
                "the AWS credentials cannot be used: no key and no token of AWS has other characters than ASCII",
                hint="copy them again, or sign in again",
            )
        )

    def reload(self) -> None:
        """Look for credentials again: AWS says that those that were found have expired. Somebody may have signed in."""
        self._profile = Profile(self._profile.name)
        self._found = None

    def _from_environment(self) -> Credentials | None:
        """Keys that stand in the environment, without an expiry: botocore would take the same ones.

        A profile named on the command line outranks them; one named by `AWS_PROFILE` does not.
        """
        if self._profile.name:
            return None
        access_key = os.environ.get("AWS_ACCESS_KEY_ID")
        secret_key = os.environ.get("AWS_SECRET_ACCESS_KEY")
        if not access_key or not secret_key or os.environ.get("AWS_CREDENTIAL_EXPIRATION"):
            return None
        token = os.environ.get("AWS_SECURITY_TOKEN") or os.environ.get("AWS_SESSION_TOKEN")
        return Credentials(access_key, secret_key, token or None)

    def _from_botocore(self) -> Credentials:
        import botocore.exceptions

        try:
            if self._found is None:
                self._found = self._profile.session.get_credentials()
            if self._found is None:
                raise DiagnosticError(
                    Diagnostic(
                        code="credentials-missing",
                        summary="no AWS credentials were found",
                        hint="set AWS_PROFILE, pass `--profile`, or run `aws configure`; without an AWS account, "
                        "`imdsctl demo` shows everything",
                    ),
                    exit_code=2,
                )
            frozen = self._found.get_frozen_credentials()
        except botocore.exceptions.BotoCoreError as error:
            raise DiagnosticError(
                Diagnostic(
                    code="credentials-unusable",
                    summary=f"the AWS credentials cannot be used: {str(error).strip().rstrip('.')}",
                    hint="sign in again (`aws sso login` for a single sign-on profile), then run the same command",
                )
            ) from error
        # botocore keeps the moment of expiry to itself; it refreshes in time, so nobody here has to know it.
        expires: datetime | None = None
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token, expires)


class Renewals:
    """New credentials in the place of expired ones. However many calls find out at once, they are renewed once."""

    def __init__(self, own: OwnCredentials) -> None:
        self._own = own
        self._instead: dict[str, Credentials] = {}
        """Access key to what took its place."""
        self._turns: dict[str, asyncio.Lock] = {}

    @property
    def any(self) -> bool:
        """Whether anything was renewed so far."""
        return bool(self._instead)

    def newest(self, credentials: Credentials) -> Credentials:
        """What is in the place of these credentials now; themselves as a rule."""
        while (newer := self._instead.get(credentials.access_key)) is not None:
            credentials = newer
        return credentials

    async def renew(self, expired: Credentials, *, own: bool) -> Credentials | None:
        """Others in the place of expired ones; None when there is nowhere to get others from.

        Raises ServiceError and Unreachable, and DiagnosticError when the user's own credentials cannot be had again.
        """
        async with self._turns.setdefault(expired.access_key, asyncio.Lock()):
            newest = self.newest(expired)
            if newest is not expired:
                return newest
            if own:
                self._own.reload()
                found: Credentials | None = self._own.current()
            else:
                found = await expired.renew() if expired.renew is not None else None
            if found is None or found.access_key == expired.access_key:
                return None
            self._instead[expired.access_key] = found
            return found
