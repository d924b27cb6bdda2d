"""The user's AWS settings, as every AWS tool reads them: environment, `~/.aws/config`, `~/.aws/credentials`.

botocore reads the files. It is imported only when there is a file to read or a profile to find: without either, the
environment says everything, and reading it costs nothing.
Source: https://docs.aws.amazon.com/sdkref/latest/guide/overview.html
"""

from __future__ import annotations

import os
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from imdsctl.adapters.models import data_folder
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError


class Profile:
    """One profile's settings. `name` None: the one that the environment names, else `default`."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name

    @cached_property
    def environment_only(self) -> bool:
        """Whether there is no profile and no file, so that botocore could find nothing beyond the environment."""
        if self.name or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE"):
            return False
        files = (
            os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
            os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        )
        return not any(os.path.exists(os.path.expanduser(os.path.expandvars(file))) for file in files)

    @cached_property
    def session(self) -> Any:
        """botocore's session for this profile.

        Raises `DiagnosticError`: `profile-unknown` when no file has the profile, `profile-unreadable` when a file
        cannot be read.
        """
        import botocore.exceptions
        import botocore.session

        session = botocore.session.Session(profile=self.name)
        try:
            session.get_scoped_config()
        except botocore.exceptions.ProfileNotFound:
            profile = session.get_config_variable("profile")
            raise DiagnosticError(
                Diagnostic(
                    code="profile-unknown",
                    summary=f"there is no AWS profile called `{profile}`",
                    hint="run `aws configure list-profiles`, or unset AWS_PROFILE",
                ),
                exit_code=2,
            ) from None
        except botocore.exceptions.BotoCoreError as error:
            raise unreadable(error) from error
        return session

    def variable(self, name: str, environment: str) -> str | bool | None:
        """A setting by botocore's name for it, `environment` being the variable that overrides the files."""
        if self.environment_only:
            return os.environ.get(environment)
        value: str | bool | None = self.session.get_config_variable(name)
        return value

    def switch(self, name: str, environment: str) -> bool:
        """A setting that is on or off; only `true` (in any case) is on, as botocore has it."""
        value = self.variable(name, environment)
        return value if isinstance(value, bool) else (value or "").lower() == "true"

    @cached_property
    def region(self) -> str | None:
        """The Region to start from, None when nothing names one.

        `AWS_REGION` is the SDKs' common name and wins over botocore's `AWS_DEFAULT_REGION`, as in AWS CLI version 2.
        """
        region = os.environ.get("AWS_REGION") or self.variable("region", "AWS_DEFAULT_REGION")
        return str(region) if region else None

    def configured_endpoint_url(self, service: str) -> str | None:
        """The address that the user chose for a service, None when AWS's own is meant.

        Source: https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
        """
        if self.switch("ignore_configured_endpoint_urls", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"):
            return None
        if self.environment_only:
            specific = f"AWS_ENDPOINT_URL_{_SERVICE_IDS.get(service, service).upper().replace('-', '_')}"
            return os.environ.get(specific) or os.environ.get("AWS_ENDPOINT_URL") or None
        import botocore.exceptions
        from botocore.configprovider import ConfiguredEndpointProvider

        try:
            url: str | None = ConfiguredEndpointProvider(
                full_config=self.session.full_config,
                scoped_config=self.session.get_scoped_config(),
                client_name=service,
            ).provide()
        except botocore.exceptions.BotoCoreError as error:
            raise unreadable(error) from error
        return url

    @cached_property
    def attempts_max(self) -> int | None:
        """How often a call is sent at most, the first time included; None when the user says nothing.

        Raises `DiagnosticError` (`profile-unreadable`) for what is no whole number above zero.
        Source: https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
        """
        value = self.variable("max_attempts", "AWS_MAX_ATTEMPTS")
        if value is None:
            return None
        try:
            attempts = int(value)
        except ValueError:
            attempts = 0
        if attempts < 1:
            raise unreadable(ValueError(f"max_attempts (AWS_MAX_ATTEMPTS) is `{value}`: use a whole number from 1"))
        return attempts

    @cached_property
    def ca_bundle(self) -> str:
        """The file or folder of certificates that HTTPS trusts."""
        chosen = self.variable("ca_bundle", "AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
        if chosen:
            return str(chosen)
        certifi = find_spec("certifi")
        if certifi is not None and certifi.origin:
            return str(Path(certifi.origin).with_name("cacert.pem"))
        return str(data_folder().with_name("cacert.pem"))


def unreadable(error: Exception) -> DiagnosticError:
    """The user's AWS configuration cannot be used, in botocore's words."""
    return DiagnosticError(
        Diagnostic(
            code="profile-unreadable",
            summary=f"the AWS configuration cannot be used: {str(error).strip().rstrip('.')}",
            hint="correct `~/.aws/config` and `~/.aws/credentials`",
        ),
        exit_code=2,
    )


# Services whose id in setting names differs from botocore's client name.
_SERVICE_IDS = {"autoscaling": "auto-scaling"}
