"""What is wrong with a vCenter's configuration, found out before a user does."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait

from cryptography import x509

from mksfilter.backends.registry import automatic, load
from mksfilter.backends.vsphere.client import About
from mksfilter.backends.vsphere.faults import CONSOLE_PRIVILEGE
from mksfilter.backends.vsphere.session import Session, log_out
from mksfilter.backends.vsphere.shared_record import SharedRecord
from mksfilter.config import VCenterSettings
from mksfilter.endpoint import CertificateDigest
from mksfilter.exceptions import BackendError, MksFilterError

__all__ = ["check_vcenters"]

_PRIVILEGES = ["System.View", CONSOLE_PRIVILEGE]
_EXPIRY_WARNING = datetime.timedelta(days=30)


def check_vcenters(
    vcenters: Sequence[VCenterSettings], *, runtime_directory: str = "", timeout: float = 60.0
) -> list[tuple[str, bool, str]]:
    """Log in to each vCenter, all at once, and tell what was found.

    :param runtime_directory: where the processes of this node share what a vCenter has refused:
        a check must not be what locks the account.
    :param timeout: seconds for all of it.
    :returns: ``(name, ok, words)`` in the order of *vcenters*. Words are one line; they also say
        what is no fault but worth knowing (verification is off, a certificate expires soon).
    """
    with contextlib.ExitStack() as stack:
        sessions: list[Session] = []
        checks: list[tuple[VCenterSettings, Future[str] | MksFilterError]] = []
        for settings in vcenters:
            try:
                load(settings)
                record = SharedRecord.of(settings, runtime_directory)
                session = stack.enter_context(contextlib.closing(Session(settings, record=record)))
                sessions.append(session)
                checks.append((settings, session.submit(_checker(session)).future))
            except MksFilterError as exc:
                checks.append((settings, exc))
        wait([check for _, check in checks if isinstance(check, Future)], timeout)
        log_out(sessions)
        return [(settings.name, *_verdict(settings, check)) for settings, check in checks]


def _verdict(settings: VCenterSettings, check: Future[str] | MksFilterError) -> tuple[bool, str]:
    if isinstance(check, MksFilterError):
        return False, str(check)
    if not check.done():
        return False, f"vcenter {settings.name}: no answer in time"
    error = check.exception()
    return (True, check.result()) if error is None else (False, str(error))


def _checker(session: Session) -> Callable[[], str]:
    return lambda: _check(session)


def _check(session: Session) -> str:
    about = session.connect()
    version = ".".join(map(str, about.api_version))
    words = [f"{about.full_name} (API {version})"]
    words.append(f"logged in as {session.settings.username}")
    words.append(_kind(session.settings, about))
    words.append(_certificate(session))
    words.append(_privileges(session))
    return "; ".join(words)


def _kind(settings: VCenterSettings, about: About) -> str:
    best = automatic(about)
    if settings.backend == "auto":
        return f"backend auto: {best}"
    if settings.backend == "webmks" and best != "webmks":
        raise BackendError(
            f"vcenter {settings.name}: backend = webmks needs API 6.0, this is older; "
            f"set backend = auto"
        )
    if settings.backend == "vcenter" and about.api_version >= (6, 5):
        raise BackendError(
            f"vcenter {settings.name}: backend = vcenter is for 5.5 and 6.0; set backend = webmks"
        )
    return f"backend {settings.backend}"


def _certificate(session: Session) -> str:
    settings = session.settings
    if session.certificate is None:
        return "no certificate"
    loaded = x509.load_der_x509_certificate(session.certificate)
    expires = _expiry(loaded)
    left = expires - datetime.datetime.now(datetime.timezone.utc)
    if settings.insecure:
        how = "NOT VERIFIED (insecure = true)"
    elif settings.thumbprint:
        how = "pinned by thumbprint"
    else:
        how = f"verified by {settings.ca_file or 'the CAs of the system'}"
    words = f"certificate {CertificateDigest.of(session.certificate)} {how}"
    if left < _EXPIRY_WARNING:
        words += f", expires {expires:%Y-%m-%d}"
    return words


def _expiry(certificate: x509.Certificate) -> datetime.datetime:
    if hasattr(certificate, "not_valid_after_utc"):  # cryptography 42
        return certificate.not_valid_after_utc
    return certificate.not_valid_after.replace(tzinfo=datetime.timezone.utc)


def _privileges(session: Session) -> str:
    try:
        has = session.privileges(_PRIVILEGES)
    except BackendError as exc:
        return f"privileges could not be read ({exc})"
    missing = [name for name, granted in zip(_PRIVILEGES, has, strict=True) if not granted]
    if not missing:
        return f"has {' and '.join(_PRIVILEGES)}"
    # A role may be granted lower down, on the folders or clusters that Nova uses.
    return f"no {' and '.join(missing)} on the root folder: make sure that the VMs have it"
