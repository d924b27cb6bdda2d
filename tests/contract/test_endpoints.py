"""The same settings, the same endpoint and the same scope of signature as a botocore client has.

Also the shortcut: without profile and files, the environment is read without importing botocore.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import pytest

from imdsctl.adapters.credentials import OwnCredentials
from imdsctl.adapters.endpoints import Endpoints
from imdsctl.adapters.http_client import HttpClient, Origin
from imdsctl.adapters.profile import Profile
from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.wire.http import HttpRequest

OPERATIONS = {
    "account": "list_regions",
    "autoscaling": "describe_auto_scaling_groups",
    "cloudtrail": "describe_trails",
    "cloudwatch": "list_metrics",
    "ec2": "describe_regions",
    "ecs": "list_clusters",
    "eks": "list_clusters",
    "elasticbeanstalk": "describe_environments",
    "iam": "list_users",
    "organizations": "describe_organization",
    "sagemaker": "list_notebook_instances",
    "ssm": "describe_parameters",
    "sts": "get_caller_identity",
}
REGIONS = ("us-east-1", "eu-central-2", "us-gov-west-1", "cn-north-1")
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("AWS_") or name == "REQUESTS_CA_BUNDLE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


class Captured(Exception):
    def __init__(self, request: Any) -> None:
        self.request = request


def _capture(request: Any, **_: Any) -> None:
    raise Captured(request)


def botocore_asks(session: Any, service: str, region: str) -> tuple[str, str, str]:
    """(scheme and host, signing name, signing Region) of a request that botocore would send."""
    client = session.create_client(service, region_name=region)
    client.meta.events.register("before-send", _capture)
    with pytest.raises(Captured) as captured:
        getattr(client, OPERATIONS[service])()
    url = urlsplit(captured.value.request.url)
    scope = captured.value.request.headers["Authorization"].decode().split("Credential=")[1].split(",")[0].split("/")
    return f"{url.scheme}://{url.netloc}{url.path.rstrip('/')}", scope[3], scope[2]


def we_ask(endpoints: Endpoints, service: str, region: str) -> tuple[str, str, str]:
    endpoint = endpoints.resolve(service, region)
    path = {"account": "/listRegions", "eks": "/clusters"}.get(service, "")
    return (
        f"{endpoint.scheme}://{endpoint.authority}{endpoint.base_path}{path}",
        endpoint.signing_name,
        endpoint.signing_region,
    )


SETTINGS: dict[str, tuple[dict[str, str], str]] = {
    "nothing": ({}, ""),
    "fips": ({"AWS_USE_FIPS_ENDPOINT": "True"}, ""),
    "dual stack": ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, ""),
    "an address for everything": ({"AWS_ENDPOINT_URL": "http://127.0.0.1:4566/"}, ""),
    "an address with a path": ({"AWS_ENDPOINT_URL": "https://aws.example.com/base"}, ""),
    "addresses for two services": (
        {"AWS_ENDPOINT_URL_EC2": "http://ec2.local:1", "AWS_ENDPOINT_URL_AUTO_SCALING": "http://asg.local:2"},
        "",
    ),
    "an address that is to be ignored": (
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
        "",
    ),
    "an address in the profile": ({}, "[default]\nendpoint_url = http://profile.local:3\n"),
    "an address in a services section": (
        {},
        "[default]\nservices = lab\nuse_dualstack_endpoint = true\n[services lab]\nsts =\n"
        "  endpoint_url = http://sts.local:4\n",
    ),
    "the environment's address before the profile's": (
        {"AWS_ENDPOINT_URL": "http://environment.local"},
        "[default]\nendpoint_url = http://profile.local\n",
    ),
    "a fips profile beside an own address": (
        {"AWS_ENDPOINT_URL": "http://own.local"},
        "[profile lab]\nuse_fips_endpoint = true\n",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS)
def test_botocore_asks_the_same_endpoint(settings: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment, config = SETTINGS[settings]
    for name, value in {**KEYS, **environment}.items():
        monkeypatch.setenv(name, value)
    if config:
        (tmp_path / "config").write_text(config)
    session = botocore.session.Session()
    endpoints = Endpoints(Profile())
    services = OPERATIONS if settings == "nothing" else ("ec2", "sts", "organizations", "autoscaling")
    differences = {
        (service, region): (ours, theirs)
        for service in services
        for region in REGIONS
        if (ours := we_ask(endpoints, service, region)) != (theirs := botocore_asks(session, service, region))
    }
    assert differences == {}


@pytest.mark.parametrize("name", ["autoscaling", "cloudwatch", "ec2", "organizations", "sts", "account"])
def test_botocore_names_the_same_variable_for_a_service(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.configprovider import ConfiguredEndpointProvider

    variable = ConfiguredEndpointProvider({}, {}, name)._get_service_env_var_name()
    monkeypatch.setenv(variable, "http://here")
    assert Profile().configured_endpoint_url(name) == "http://here"


@pytest.mark.parametrize("region", ["", "eu west 1", "evil.example.com/#", "-", "EU-WEST-1"])
def test_what_is_no_region_does_not_become_a_host_name(region: str) -> None:
    with pytest.raises(DiagnosticError, match="endpoint-unknown"):
        Endpoints(Profile()).resolve("sts", region)


@pytest.mark.parametrize(
    "url", ["localhost:4566", "ftp://x", "http://", "http://me:hunter2@host:port", "http://\udcff"]
)
def test_an_address_that_is_none_is_said_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    with pytest.raises(DiagnosticError, match="endpoint-invalid") as error:
        Endpoints(Profile()).resolve("ec2", "eu-west-1")
    assert "hunter2" not in str(error.value.diagnostics)


@pytest.mark.parametrize(
    ("environment", "config", "profile"),
    [
        (KEYS, "", None),
        ({**KEYS, "AWS_SESSION_TOKEN": "token"}, "", None),
        ({**KEYS, "AWS_SESSION_TOKEN": "token", "AWS_SECURITY_TOKEN": "older"}, "", None),
        ({**KEYS, "AWS_CREDENTIAL_EXPIRATION": "2099-01-01T00:00:00Z"}, "", None),
        ({**KEYS, "AWS_PROFILE": "lab"}, "[profile lab]\naws_access_key_id = L\naws_secret_access_key = l\n", None),
        (KEYS, "[profile lab]\naws_access_key_id = L\naws_secret_access_key = l\n", "lab"),
        ({}, "[default]\naws_access_key_id = D\naws_secret_access_key = d\naws_session_token = t\n", None),
        (
            {},
            '[default]\ncredential_process = echo \'{"Version": 1, "AccessKeyId": "P", "SecretAccessKey": "p"}\'\n',
            None,
        ),
    ],
)
def test_botocore_finds_the_same_credentials(
    environment: dict[str, str], config: str, profile: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if config:
        (tmp_path / "config").write_text(config)
    theirs = botocore.session.Session(profile=profile).get_credentials().get_frozen_credentials()
    ours = OwnCredentials(Profile(profile)).current()
    assert (ours.access_key, ours.secret_key, ours.token) == (theirs.access_key, theirs.secret_key, theirs.token)


def test_no_credentials_says_what_to_do() -> None:
    with pytest.raises(DiagnosticError) as missing:
        OwnCredentials(Profile()).current()
    (diagnostic,) = missing.value.diagnostics
    assert diagnostic.code == "credentials-missing"
    assert "AWS_PROFILE" in (diagnostic.hint or "")


def test_half_a_pair_of_keys_says_which_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A")
    with pytest.raises(DiagnosticError, match=r"credentials-unusable.*AWS_SECRET_ACCESS_KEY"):
        OwnCredentials(Profile()).current()


def test_a_profile_that_nobody_wrote_is_named() -> None:
    with pytest.raises(DiagnosticError, match=r"profile-unknown.*`nowhere`"):
        OwnCredentials(Profile("nowhere")).current()


def test_a_config_file_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("endpoint_url = before any section\n")
    with pytest.raises(DiagnosticError, match="profile-unreadable"):
        Endpoints(Profile()).resolve("ec2", "eu-west-1")


def test_credentials_do_not_show_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**KEYS, "AWS_SESSION_TOKEN": "hidden"}.items():
        monkeypatch.setenv(name, value)
    shown = repr(OwnCredentials(Profile()).current())
    assert "secret" not in shown.replace("secret_key", "")
    assert "hidden" not in shown


def test_the_certificates_are_those_that_botocore_trusts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from botocore.httpsession import get_cert_path

    assert Profile().ca_bundle == get_cert_path(True)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/requests.pem")
    assert Profile().ca_bundle == "/requests.pem"
    (tmp_path / "config").write_text("[default]\nca_bundle = /config.pem\n")
    assert Profile().ca_bundle == "/config.pem"
    monkeypatch.setenv("AWS_CA_BUNDLE", "/environment.pem")
    assert Profile().ca_bundle == "/environment.pem"


def test_the_region_comes_from_the_environment_then_from_the_profile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert Profile().region is None
    (tmp_path / "config").write_text("[default]\nregion = eu-west-3\n")
    assert Profile().region == "eu-west-3"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    assert Profile().region == "eu-west-2"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert Profile().region == "eu-west-1"


def test_keys_and_an_address_in_the_environment_need_no_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:4566"}.items():
        monkeypatch.setenv(name, value)
    program = (
        "import sys\n"
        "from imdsctl.adapters.aws import AwsClient\n"
        "from imdsctl.adapters.profile import Profile\n"
        "client = AwsClient(Profile())\n"
        "client._own.current(), client._target('organizations', 'eu-west-1'), client.default_region\n"
        "sys.exit(any(name.split('.')[0] in ('botocore', 'boto3', 'sqlalchemy', 'rich') for name in sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_number_of_attempts_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Profile().attempts_max is None
    config = tmp_path / "attempts"
    config.write_text("[default]\nmax_attempts = 7\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert Profile().attempts_max == 7
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    assert Profile().attempts_max == 2


@pytest.mark.parametrize("attempts", ["0", "-1", "many", "1.5"])
def test_a_number_of_attempts_that_is_none_is_said_so(attempts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", attempts)
    with pytest.raises(DiagnosticError, match="profile-unreadable"):
        assert Profile().attempts_max


@pytest.mark.parametrize("proxy", ["http://me:hunter2@host:port", "me:hunter2@host:0x", "//me:hunter2@[", "\udcff"])
def test_a_proxy_that_is_no_address_is_said_so_and_its_password_is_not(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    asked = HttpClient().send(Origin("https", "ec2.test", 443), HttpRequest("GET", "/"))
    with pytest.raises(DiagnosticError, match="proxy-invalid") as error:
        asyncio.run(asked)
    assert "hunter2" not in str(error.value.diagnostics)


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
def test_keys_of_other_characters_than_keys_have_are_unusable_and_not_shown(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**KEYS, variable: "hunter2\udcff"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DiagnosticError, match="credentials-unusable") as error:
        OwnCredentials(Profile()).current()
    assert "hunter2" not in str(error.value.diagnostics)
