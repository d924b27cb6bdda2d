"""The instance identity document's three signatures, and the certificates against which they verify.

- `signature`: Base64 of RSA PKCS#1 v1.5 over the document with SHA-256.
- `pkcs7`: CMS signed data with DSA and SHA-1, the document inside, as EC2's is.
- `rsa2048`: the same with RSA-2048 and SHA-256.

Both CMS texts are Base64 in lines of 64 without BEGIN and END lines. Source: EC2 User Guide, "Verify the instance
identity document for an Amazon EC2 instance".
"""

from __future__ import annotations

import base64
import datetime as dt
import textwrap
from typing import TYPE_CHECKING, Any

from imdsctl.imds.documents import identity_document
from imdsctl.imds.facts import Facts

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.dsa import DSAPrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.x509 import Certificate

    from imdsctl.imds.tree import Asked

KEPT_MAX = 64
RSA_BITS = 2048
DSA_BITS = 1024
"""As AWS's own certificate for `pkcs7` has."""
VALID_DAYS = 3650 * 5


class IdentitySigner:
    """Signs identity documents with an RSA and a DSA key, each with a certificate of its own.

    What was signed is kept for the last instances asked for: a signature costs a millisecond, and DSA's differ each
    time.
    """

    def __init__(self, rsa: tuple[RSAPrivateKey, Certificate], dsa: tuple[DSAPrivateKey, Certificate]) -> None:
        self._rsa = rsa
        self._dsa = dsa
        self._kept: dict[tuple[str, str], bytes] = {}  # (what, document) -> text

    @classmethod
    def generate(cls, created: dt.datetime) -> IdentitySigner:
        """New keys, with certificates that are valid from `created` on. Takes about a tenth of a second."""
        from cryptography.hazmat.primitives.asymmetric import dsa, rsa

        rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
        dsa_key = dsa.generate_private_key(key_size=DSA_BITS)
        return cls((rsa_key, _certificate(rsa_key, created)), (dsa_key, _certificate(dsa_key, created)))

    @classmethod
    def load(cls, pem: bytes) -> IdentitySigner:
        """The signer of what `private_pem` wrote. Raises ValueError when it is not that."""
        from cryptography.hazmat.primitives.asymmetric.dsa import DSAPrivateKey
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
        from cryptography.x509 import load_pem_x509_certificates

        certificates = load_pem_x509_certificates(pem)
        keys = [load_pem_private_key(part, None) for part in _private_parts(pem)]
        if len(keys) != 2 or len(certificates) != 2:
            raise ValueError("two keys and two certificates are expected")
        rsa_key, dsa_key = keys
        if not isinstance(rsa_key, RSAPrivateKey) or not isinstance(dsa_key, DSAPrivateKey):
            raise ValueError("an RSA key and a DSA key are expected, in this order")
        return cls((rsa_key, certificates[0]), (dsa_key, certificates[1]))

    def private_pem(self) -> bytes:
        """Keys and certificates, for `load`. A secret."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        parts = []
        for key, certificate in (self._rsa, self._dsa):
            parts.append(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            parts.append(certificate.public_bytes(Encoding.PEM))
        return b"".join(parts)

    def certificates_pem(self) -> str:
        """The certificates as PEM: first RSA's (`signature`, `rsa2048`), then DSA's (`pkcs7`)."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return "".join(certificate.public_bytes(Encoding.PEM).decode() for _, certificate in (self._rsa, self._dsa))

    def signed(self, what: Asked, facts: Facts) -> bytes:
        """`signature`, `pkcs7` or `rsa2048` (by the Asked of that name) of an instance's identity document."""
        document = identity_document(facts)
        found = self._kept.get((what.value, document))
        if found is None:
            if len(self._kept) >= KEPT_MAX:
                self._kept.clear()
            found = self._kept[what.value, document] = self._sign(what.value, document.encode())
        return found

    def _sign(self, what: str, document: bytes) -> bytes:
        from cryptography.hazmat.primitives.hashes import SHA1, SHA256

        if what == "signature":
            return _lines(_rsa_signature(self._rsa[0], document, SHA256()), 76)
        if what == "rsa2048":
            key, certificate = self._rsa
            return _lines(
                _cms(
                    document, certificate, "sha256", "rsassa_pkcs1v15", lambda data: _rsa_signature(key, data, SHA256())
                ),
                64,
            )
        dsa_key, certificate = self._dsa
        return _lines(_cms(document, certificate, "sha1", "dsa", lambda data: dsa_key.sign(data, SHA1())), 64)


def _rsa_signature(key: RSAPrivateKey, data: bytes, digest: Any) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    return key.sign(data, PKCS1v15(), digest)


def _cms(document: bytes, certificate: Certificate, digest: str, algorithm: str, sign: Any) -> bytes:
    """CMS signed data (RFC 5652) with the document inside, with signed attributes, without the certificate.

    AWS's texts do not carry the certificate: who verifies has to bring it, and to say that it need not be inside.
    """
    import hashlib

    from asn1crypto import algos, cms, core
    from asn1crypto import x509 as asn1_x509
    from cryptography.hazmat.primitives.serialization import Encoding

    issuer = asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))
    attributes = cms.CMSAttributes(
        [
            cms.CMSAttribute({"type": "content_type", "values": ["data"]}),
            cms.CMSAttribute({"type": "message_digest", "values": [hashlib.new(digest, document).digest()]}),
        ]
    )
    digest_algorithm = algos.DigestAlgorithm({"algorithm": digest})
    signer = cms.SignerInfo(
        {
            "version": "v1",
            "sid": cms.SignerIdentifier(
                name="issuer_and_serial_number",
                value=cms.IssuerAndSerialNumber({"issuer": issuer.issuer, "serial_number": issuer.serial_number}),
            ),
            "digest_algorithm": digest_algorithm,
            "signed_attrs": attributes,
            "signature_algorithm": algos.SignedDigestAlgorithm({"algorithm": algorithm}),
            # RFC 5652, 5.4: what is signed is the attributes as a SET OF, not with the tag that they have inside.
            "signature": sign(attributes.untag().dump(force=True)),
        }
    )
    signed = cms.SignedData(
        {
            "version": "v1",
            "digest_algorithms": [digest_algorithm],
            "encap_content_info": {"content_type": "data", "content": core.OctetString(document)},
            "signer_infos": [signer],
        }
    )
    return cms.ContentInfo({"content_type": "signed_data", "content": signed}).dump()  # type: ignore[no-any-return]


def _certificate(key: Any, created: dt.datetime) -> Certificate:
    """A certificate that a key signs for itself, with the subject that AWS's have."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509.oid import NameOID

    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "Washington State"),
            x509.NameAttribute(NameOID.LOCALITY_NAME, "Seattle"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "imdsctl local AWS"),
        ]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(created)
        .not_valid_after(created + dt.timedelta(days=VALID_DAYS))
        .sign(key, SHA256())
    )


def _private_parts(pem: bytes) -> list[bytes]:
    begin, end = b"-----BEGIN PRIVATE KEY-----", b"-----END PRIVATE KEY-----"
    return [begin + part.partition(end)[0] + end + b"\n" for part in pem.split(begin)[1:]]


def _lines(raw: bytes, width: int) -> bytes:
    return "\n".join(textwrap.wrap(base64.b64encode(raw).decode(), width)).encode()
