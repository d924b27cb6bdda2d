"""The identity document's signatures, as whoever receives them verifies them: with OpenSSL, and with cryptography."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import cms
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.x509 import load_pem_x509_certificates
from tests.contract.needs import missing

from imdsctl.imds.documents import identity_document
from imdsctl.imds.fixed import DEFAULT_OPTIONS, FixedSource, example_credentials, example_facts
from imdsctl.imds.identity import IdentitySigner
from imdsctl.imds.messages import Request
from imdsctl.imds.service import MetadataService
from imdsctl.imds.tree import Asked

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
FACTS = example_facts()
DOCUMENT = identity_document(FACTS).encode()


@pytest.fixture(scope="module")
def signer() -> IdentitySigner:
    return IdentitySigner.generate(CREATED)


@pytest.fixture
def openssl(tmp_path: Path) -> Callable[..., str]:
    """Runs OpenSSL in a directory of its own; skips where there is none, but not in CI."""
    program = shutil.which("openssl")
    if program is None:
        missing("there is no openssl")

    def run(*arguments: str) -> str:
        done = subprocess.run([program, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def certificates(signer: IdentitySigner) -> list[str]:
    """RSA's and DSA's."""
    return re.findall(r"-----BEGIN.*?END CERTIFICATE-----\n", signer.certificates_pem(), re.DOTALL)


def fetched(signer: IdentitySigner, path: str) -> bytes:
    """As a program on the instance gets it."""
    service = MetadataService(FixedSource(DEFAULT_OPTIONS, FACTS, example_credentials), b"key", signer=signer)
    reply = service.respond(Request("GET", b"/latest/dynamic/instance-identity/" + path.encode()), 1.79e9)
    assert reply.status == 200
    return reply.content.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(("path", "number"), [("rsa2048", 0), ("pkcs7", 1)])
@pytest.mark.parametrize("command", ["smime", "cms"])
def test_openssl_verifies_the_signed_document_as_the_guide_says(
    signer: IdentitySigner, openssl: Callable[..., str], tmp_path: Path, path: str, number: int, command: str
) -> None:
    """EC2 User Guide: put BEGIN and END lines around it, and verify with the Region's certificate."""
    text = fetched(signer, path)
    assert b"-----" not in text
    (tmp_path / "signed").write_bytes(b"-----BEGIN PKCS7-----\n" + text + b"\n-----END PKCS7-----\n")
    (tmp_path / "certificate").write_text(certificates(signer)[number])
    verify = ("-verify", "-in", "signed", "-inform", "PEM", "-certfile", "certificate", "-noverify")
    assert openssl(command, *verify).encode() == DOCUMENT == fetched(signer, "document")


def test_openssl_refuses_it_under_another_certificate(
    signer: IdentitySigner, openssl: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "signed").write_bytes(
        b"-----BEGIN PKCS7-----\n" + fetched(signer, "rsa2048") + b"\n-----END PKCS7-----\n"
    )
    (tmp_path / "certificate").write_text(certificates(IdentitySigner.generate(CREATED))[0])
    verify = ("-verify", "-in", "signed", "-inform", "PEM", "-certfile", "certificate", "-noverify")
    with pytest.raises(AssertionError, match="signer certificate"):
        openssl("smime", *verify)


def test_openssl_verifies_the_signature(signer: IdentitySigner, openssl: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "document").write_bytes(DOCUMENT)
    (tmp_path / "signature").write_bytes(base64.b64decode(fetched(signer, "signature")))
    (tmp_path / "certificate").write_text(certificates(signer)[0])
    (tmp_path / "key").write_text(openssl("x509", "-in", "certificate", "-noout", "-pubkey"))
    assert "OK" in openssl("dgst", "-sha256", "-verify", "key", "-signature", "signature", "document")


def test_cryptography_verifies_all_three(signer: IdentitySigner) -> None:
    rsa, dsa = (each.public_key() for each in load_pem_x509_certificates(signer.certificates_pem().encode()))
    assert rsa.key_size == 2048
    rsa.verify(base64.b64decode(fetched(signer, "signature")), DOCUMENT, PKCS1v15(), SHA256())
    signature, attributes = parts(fetched(signer, "rsa2048"), "sha256")
    rsa.verify(signature, attributes, PKCS1v15(), SHA256())
    signature, attributes = parts(fetched(signer, "pkcs7"), "sha1")
    dsa.verify(signature, attributes, SHA1())
    with pytest.raises(InvalidSignature):
        dsa.verify(signature, attributes + b"x", SHA1())


def parts(text: bytes, digest: str) -> tuple[bytes, bytes]:
    """A CMS text's signature, and what it is of; its document and digest are looked at on the way."""
    signed: Any = cms.ContentInfo.load(base64.b64decode(text))["content"]
    assert signed["encap_content_info"]["content"].native == DOCUMENT
    assert not signed["certificates"]  # who verifies has to bring it, as with AWS's
    (signer,) = signed["signer_infos"]
    assert signer["digest_algorithm"]["algorithm"].native == digest
    return signer["signature"].native, signer["signed_attrs"].untag().dump()


def test_keys_that_are_written_and_read_sign_the_same(signer: IdentitySigner) -> None:
    again = IdentitySigner.load(signer.private_pem())
    assert again.certificates_pem() == signer.certificates_pem()
    for what in (Asked.SIGNATURE, Asked.RSA2048):
        assert again.signed(what, FACTS) == signer.signed(what, FACTS)


@pytest.mark.parametrize("pem", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"])
def test_what_is_no_pair_of_keys_is_refused(pem: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        IdentitySigner.load(pem)


def test_keys_in_the_wrong_order_are_refused(signer: IdentitySigner) -> None:
    pem = signer.private_pem()
    half = pem.index(b"-----BEGIN PRIVATE KEY-----", 10)
    with pytest.raises(ValueError, match="RSA key and a DSA key"):
        IdentitySigner.load(pem[half:] + pem[:half])


def test_a_signature_is_kept_until_the_document_changes(signer: IdentitySigner) -> None:
    """DSA's differ each time they are made: a client that asks twice gets the same."""
    first = signer.signed(Asked.PKCS7, FACTS)
    assert signer.signed(Asked.PKCS7, replace(FACTS, tags={"Name": "another"})) == first
    restarted = replace(FACTS, pending_time=datetime(2026, 4, 1, tzinfo=UTC))
    assert signer.signed(Asked.PKCS7, restarted) != first


def test_the_certificates_say_whose_they_are_not(signer: IdentitySigner) -> None:
    """Nobody takes them for AWS's."""
    for certificate in load_pem_x509_certificates(signer.certificates_pem().encode()):
        assert "imdsctl" in certificate.subject.rfc4514_string()
        assert certificate.not_valid_before_utc == CREATED
