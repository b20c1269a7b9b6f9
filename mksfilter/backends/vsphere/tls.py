"""TLS contexts that really check: a pinned digest, or a CA.

pyvmomi's own ``thumbprint=`` cannot be relied on: it is skipped when a CA vouches for the server or
when the context does not verify, and its first mismatch turns a shared context to ``CERT_NONE``,
so that the *second* attempt with a wrong pin succeeds. Here the pin is part of the context's
handshake: no socket leaves it whose certificate was not compared, however often one tries.
"""

from __future__ import annotations

import functools
import hmac
import ssl
from collections.abc import Sequence
from typing import Any

from mksfilter.config import VCenterSettings
from mksfilter.endpoint import CertificateDigest, Endpoint
from mksfilter.exceptions import CertificateMismatch, ConfigurationError

__all__ = ["check_digests", "pins", "ssl_context", "strongest"]


def strongest(digests: Sequence[CertificateDigest]) -> tuple[CertificateDigest, ...]:
    """Those of *digests* that are checked: of the strongest algorithm offered, and no other.

    A host whose SHA-1 digest can be forged must not be accepted by it when SHA-256 is known too.
    """
    best = max((digest.strength for digest in digests), default=0)
    return tuple(digest for digest in digests if digest.strength == best)


def check_digests(
    der: bytes | None, digests: Sequence[CertificateDigest], subject: str = "console host"
) -> None:
    """Compare the certificate *der* with the strongest of *digests*.

    :param der: what ``getpeercert(True)`` returned; None when the peer presented nothing.
    :param subject: whose certificate it is, for the error.
    :raises CertificateMismatch: another certificate, none at all, or nothing to compare with.
    """
    expected = strongest(digests)
    if not der or not expected:
        raise CertificateMismatch(f"{subject}: no certificate, or no digest to compare it with")
    presented = CertificateDigest.of(der, expected[0].algorithm)
    # Digests are public; compare_digest costs nothing and ends the discussion.
    if not any(hmac.compare_digest(presented.value, digest.value) for digest in expected):
        raise CertificateMismatch(
            f"{subject}: certificate {presented} is presented, "
            f"{' or '.join(map(str, expected))} expected; if it was renewed on purpose, correct "
            f"the thumbprint (or reconnect the host in vCenter), else somebody is on the way"
        )


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


def ssl_context(trust: Endpoint | VCenterSettings) -> ssl.SSLContext:
    """A client context for a console endpoint or a vCenter.

    With digests, the certificate has to be the one pinned, and the name and CA do not matter.
    Without, a CA of ``ca_file`` (or of the system) has to vouch for the name. Neither is skipped
    for any host, local ones included; ``insecure`` is the only way to verify nothing.

    The pinned context raises :class:`~mksfilter.exceptions.CertificateMismatch` from the handshake,
    both for ``wrap_socket`` (which has closed the socket then) and ``wrap_bio``.

    :raises ConfigurationError: ``ca_file`` or ``thumbprint`` cannot be used.
    """
    if isinstance(trust, Endpoint):
        digests = trust.digests
        subject = f"console host {trust.address}"
        if trust.vcenter:
            subject += f" (vcenter {trust.vcenter})"
    else:
        digests = pins(trust)
        subject = f"vcenter {trust.name} ({trust.host}:{trust.port})"
    if digests:
        return _pinned_context(digests, subject)
    if trust.insecure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        context = ssl.create_default_context(cafile=trust.ca_file)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigurationError(
            f"{subject}: ca_file {trust.ca_file} cannot be used: {exc.strerror or exc}"
        ) from exc
    # Python 3.13 turned this on; the certificates that vCenter's own CA issues lack extensions it
    # asks for. The chain and the name are verified as on 3.10 to 3.12.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _pinned_context(digests: Sequence[CertificateDigest], subject: str) -> ssl.SSLContext:
    context = _pinned_class(ssl.SSLContext)(ssl.PROTOCOL_TLS_CLIENT)
    # The pin stands in for name and chain: hosts have self-signed certificates with any name.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # A renegotiation (TLS 1.2) could present another certificate after the check.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.pins = tuple(digests)
    context.subject = subject
    return context  # type: ignore[no-any-return]


@functools.cache
def _pinned_class(base: Any) -> Any:
    """A subclass of *base*, which is ``ssl.SSLContext`` at the time of the call.

    gevent replaces that class, and a worker may be patched after this module was imported; a
    class made at import time would then hand out sockets that block the whole hub.
    """

    def check(context: Any, der: bytes | None) -> None:
        check_digests(der, context.pins, context.subject)

    class PinnedSocket(base.sslsocket_class):  # type: ignore[misc]
        def do_handshake(self, *args: Any) -> None:
            super().do_handshake(*args)
            try:
                check(self.context, self.getpeercert(True))
            except CertificateMismatch:
                self.close()
                raise

    class PinnedObject(base.sslobject_class):  # type: ignore[misc]
        _checked = False

        def do_handshake(self) -> None:
            super().do_handshake()
            check(self.context, self.getpeercert(True))
            self._checked = True

        # OpenSSL would do the handshake by itself inside read() and write().
        def read(self, *args: Any) -> Any:
            self._require_check()
            return super().read(*args)

        def write(self, data: Any) -> int:
            self._require_check()
            return int(super().write(data))

        def _require_check(self) -> None:
            if not self._checked:
                raise ValueError("read or write before do_handshake() has compared the digest")

    class PinnedContext(base):  # type: ignore[misc]
        sslsocket_class = PinnedSocket
        sslobject_class = PinnedObject
        pins: tuple[CertificateDigest, ...] = ()
        subject = ""

        def wrap_socket(self, sock: Any, *args: Any, **kwargs: Any) -> Any:
            if not kwargs.get("do_handshake_on_connect", True) or len(args) > 1:
                raise ValueError("a pinned context does the handshake itself")
            return super().wrap_socket(sock, *args, **kwargs)

    return PinnedContext
