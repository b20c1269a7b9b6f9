"""TLS towards vCenters and console hosts: the context, and the pinned digest.

A pin is compared once, after the handshake and before the first byte is sent, by the owner of the
socket (:func:`check_digests`). A context alone never verifies a pin. pyvmomi's own ``thumbprint=``
cannot be relied on: it is skipped when a CA vouches for the server or when the context does not
verify, and its first mismatch turns a shared context to ``CERT_NONE``, so that the *second* attempt
with a wrong pin succeeds.
"""

from __future__ import annotations

import datetime
import hmac
import logging
import os
import ssl
from collections.abc import Sequence

from cryptography import x509

from mksfilter.config import VCenterSettings
from mksfilter.endpoint import CertificateDigest, Endpoint
from mksfilter.exceptions import CertificateMismatch, ConfigurationError
from mksfilter.log import event
from mksfilter.tcp import host_and_port
from mksfilter.tls_groups import offer_groups

__all__ = [
    "FollowingContext",
    "check_digests",
    "expiry",
    "expiry_of_pem",
    "pins",
    "ssl_context",
    "strongest",
]

LOG = logging.getLogger(__name__)


def strongest(digests: Sequence[CertificateDigest]) -> tuple[CertificateDigest, ...]:
    """Those of *digests* that are checked: of the strongest algorithm offered, and no other.

    A host whose SHA-1 digest can be forged must not be accepted by it when SHA-256 is known too.
    """
    if len(digests) == 1:
        return tuple(digests)
    best = max((digest.strength for digest in digests), default=0)
    return tuple(digest for digest in digests if digest.strength == best)


def check_digests(
    der: bytes | None, digests: Sequence[CertificateDigest], subject: str = "console host"
) -> None:
    """Compare the certificate *der* with the strongest of *digests*.

    For a TLS socket right after its handshake, before anything is sent. The caller closes the
    socket when this raises.

    :param der: what ``getpeercert(True)`` returned; None when the peer presented nothing.
    :param subject: whose certificate it is, for the error.
    :raises CertificateMismatch: another certificate, none at all, or nothing to compare with.
    """
    expected = strongest(digests)
    if not der or not expected:
        raise CertificateMismatch(f"{subject}: no certificate, or no digest to compare it with")
    presented = CertificateDigest.of(der, expected[0].algorithm)
    # Digests are public; compare_digest costs nothing and ends the discussion.
    for digest in expected:
        if hmac.compare_digest(presented.value, digest.value):
            return
    raise CertificateMismatch(
        f"{subject}: certificate {presented} is presented, "
        f"{' or '.join(map(str, expected))} expected; if it was renewed on purpose, correct "
        f"the thumbprint (or reconnect the host in vCenter), else the connection may be "
        f"intercepted"
    )


def expiry(der: bytes) -> float:
    """When a certificate ends, in seconds since the epoch.

    :raises ValueError: it is none.
    """
    return _expiry(x509.load_der_x509_certificate(der))


def expiry_of_pem(pem: bytes) -> float:
    """The same of the first certificate of a file; those that vouch for it follow.

    :raises ValueError: there is none.
    """
    return _expiry(x509.load_pem_x509_certificate(pem))


def _expiry(certificate: x509.Certificate) -> float:
    # cryptography 42 and later; before, it is UTC and does not say so.
    when = getattr(certificate, "not_valid_after_utc", None)
    if when is None:
        when = certificate.not_valid_after.replace(tzinfo=datetime.timezone.utc)
    return float(when.timestamp())


def pins(settings: VCenterSettings) -> tuple[CertificateDigest, ...]:
    """The digest in ``thumbprint``, as a tuple of one or none.

    :raises ConfigurationError: it cannot be read.
    """
    if not settings.thumbprint:
        return ()
    try:
        return (CertificateDigest.parse(settings.thumbprint),)
    except ValueError as exc:
        raise ConfigurationError(f"[vcenter.{settings.name}] thumbprint: {exc}") from exc


def ssl_context(trust: Endpoint | VCenterSettings, groups: Sequence[str] = ()) -> ssl.SSLContext:
    """A client context for a console endpoint or a vCenter.

    With digests, the context verifies nothing: the certificate has to be the one pinned, name and
    CA do not matter, and the caller owes a :func:`check_digests` after each handshake. Without, a
    CA of ``ca_file`` (or of the system) has to vouch for the name. Local hosts are no exception;
    ``insecure`` is the only way to verify nothing at all.

    Neither allows a renegotiation (TLS 1.2), which could present another certificate after the
    check. The class is ``ssl.SSLContext`` at the time of the call, so that it is gevent's in a
    worker that was patched after this module was imported.

    :param groups: see :func:`mksfilter.tls_groups.offer_groups`.
    :raises ConfigurationError: ``ca_file``, ``thumbprint`` or *groups* cannot be used.
    """
    digests = trust.digests if isinstance(trust, Endpoint) else pins(trust)
    if digests or trust.insecure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        try:
            context = ssl.create_default_context(cafile=trust.ca_file)
        except (OSError, ssl.SSLError) as exc:
            raise ConfigurationError(
                f"{_subject(trust)}: ca_file {trust.ca_file} cannot be used: {exc.strerror or exc}"
            ) from exc
        # Python 3.13 turned this on; the certificates that vCenter's own CA issues lack extensions
        # it asks for. The chain and the name are verified as on 3.10 to 3.12.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.options |= ssl.OP_NO_RENEGOTIATION
    offer_groups(context, groups)
    return context


class FollowingContext:
    """:func:`ssl_context` of a vCenter, as its ``ca_file`` is now.

    A vCenter that comes back with the certificate of another CA is trusted again as soon as the
    file names that one; nothing has to be restarted. A file that cannot be used, as while it is
    replaced, changes nothing.

    :raises ConfigurationError: as :func:`ssl_context`, at the beginning.
    """

    def __init__(self, trust: VCenterSettings) -> None:
        self._trust = trust
        self._seen = self._look()
        self._context = ssl_context(trust)

    @property
    def current(self) -> ssl.SSLContext:
        """The context for a connection that is made now."""
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._context = ssl_context(self._trust)
            except ConfigurationError as exc:
                LOG.warning(
                    event("ca-file-not-read", detail=exc, kept="what it held before is trusted")
                )
            else:
                LOG.info(event("ca-file-read", vcenter=self._trust.name, file=self._trust.ca_file))
        return self._context

    def _look(self) -> tuple[int, int, int] | None:
        """What tells one state of the file from another."""
        if not self._trust.ca_file:
            return None
        try:
            info = os.stat(self._trust.ca_file)
        except OSError:
            return None
        return info.st_ino, info.st_mtime_ns, info.st_size


def _subject(trust: Endpoint | VCenterSettings) -> str:
    if isinstance(trust, VCenterSettings):
        return f"vcenter {trust.name} ({host_and_port(trust.host, trust.port)})"
    of_vcenter = f" (vcenter {trust.vcenter})" if trust.vcenter else ""
    return f"console host {trust.address}{of_vcenter}"
