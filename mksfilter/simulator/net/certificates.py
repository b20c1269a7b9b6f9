"""A certificate authority for the simulated vSphere, and the certificates it signs.

Everything is made afresh in memory at start (EC P-256 keys, so that twenty vCenters start in a
moment) and only certificates, never keys, outlive the call that makes them on disk.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import ipaddress
import os
import ssl
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Authority", "Certificate", "thumbprint"]

_LIFETIME = datetime.timedelta(days=30)


def thumbprint(der: bytes, algorithm: str = "sha256") -> str:
    """Digest of a certificate the way vSphere writes it: upper-case hex pairs with colons."""
    return ":".join(f"{byte:02X}" for byte in hashlib.new(algorithm, der).digest())


@dataclasses.dataclass(frozen=True)
class Certificate:
    """A server certificate in DER, and TLS contexts that present it.

    :ivar context: TLS 1.2 and 1.3, as ESXi's profile ``COMPATIBLE`` has them.
    :ivar strict: TLS 1.3 alone, on P-256, as ``NIST_2024_TLS_13_ONLY`` has it. That has P-384 too,
        and Python cannot name two: a client has to agree to what it may not have offered first.
    """

    der: bytes
    context: ssl.SSLContext
    strict: ssl.SSLContext

    @property
    def pem(self) -> str:
        return ssl.DER_cert_to_PEM_cert(self.der)

    def digests(self) -> dict[str, str]:
        """Thumbprints by algorithm: ``sha1``, ``sha256`` and ``sha512``."""
        return {name: thumbprint(self.der, name) for name in ("sha1", "sha256", "sha512")}


class Authority:
    """Signs certificates for names and addresses.

    :param context_class: the ``SSLContext`` to make; the simulator passes gevent's.
    """

    def __init__(
        self,
        name: str = "mksfilter simulator CA",
        *,
        context_class: type[ssl.SSLContext] = ssl.SSLContext,
    ) -> None:
        self._context_class = context_class
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        """The authority's own certificate, for ``ca_file``."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, addresses: list[str]) -> Certificate:
        """A certificate for *name*, ``localhost`` and the *addresses*, IP ones or names."""
        key = ec.generate_private_key(ec.SECP256R1())
        known_as = [_general_name(text) for text in dict.fromkeys([name, "localhost", *addresses])]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._builder(subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(known_as), critical=False)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        context, strict = self._context(certificate, key), self._context(certificate, key)
        strict.minimum_version = ssl.TLSVersion.TLSv1_3
        strict.set_ecdh_curve("prime256v1")
        return Certificate(certificate.public_bytes(serialization.Encoding.DER), context, strict)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + _LIFETIME)
        )

    def _context(
        self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> ssl.SSLContext:
        context = self._context_class(ssl.PROTOCOL_TLS_SERVER)
        # Clients that read and write in two threads (websockets.sync) may stall on a session
        # ticket that arrives while they write: OpenSSL's connections are not thread-safe.
        context.num_tickets = 0
        # The ssl module reads keys from files alone; this one is gone before anybody connects.
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            os.chmod(file.name, 0o600)
            file.write(certificate.public_bytes(serialization.Encoding.PEM))
            file.write(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
            file.flush()
            context.load_cert_chain(file.name)
        return context


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
