"""What of this machine keeps a proxy from serving: descriptors, the page, its once-only memory."""

from __future__ import annotations

import importlib.resources
import os
import secrets
import stat
import time
from collections.abc import Iterator
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final

from mksfilter.auth.replay import replay_guard
from mksfilter.checks.finding import Finding, Kind
from mksfilter.config import AuditSettings, ConfigurationFiles, ProxySettings
from mksfilter.exceptions import ConsoleError, MksFilterError, TokenReplayed
from mksfilter.private_files import mode_of_secret
from mksfilter.proxy import fd_budget

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["audit_places", "descriptors", "once_only", "page", "secrets_in_files", "world"]

_SCRIPT: Final = "proxy/web/static/novnc/console.js"
_SECRETS: Final = ("password", "audit_transport_url", "transport_url", "secret")
_WORLD: Final = {
    "trusted_proxies": "anybody may say in a header who they are: limits, log and audit trail "
    "believe it",
    "metrics_networks": "anybody may read the metrics",
    "allowed_networks": "a ticket may lead anywhere, to this machine and to metadata services too",
}


def descriptors(where: str, settings: ProxySettings, limit: int) -> Iterator[Finding]:
    """Are there enough for ``max_sessions``?

    :param limit: of a process that is started from here.
    """
    room = fd_budget.sessions(limit)
    if room < settings.max_sessions:
        yield Finding(
            where,
            f"max_sessions = {settings.max_sessions}, and {limit} descriptors are enough for "
            f"{room} in a process that is started as this one",
            f"raise the service's limit (LimitNOFILE=, ulimit -n) to "
            f"{fd_budget.needed(settings.max_sessions)}, or lower max_sessions",
        )
    else:
        yield Finding(
            where, f"{limit} descriptors: room for {settings.max_sessions} sessions", kind=Kind.GOOD
        )


def page(package: str = "mksfilter") -> Iterator[Finding]:
    """Is the console page there?"""
    script = importlib.resources.files(package).joinpath(_SCRIPT)
    if script.is_file():
        yield Finding(package, "the console page is built", kind=Kind.GOOD)
    else:
        yield Finding(
            package,
            "the console page is not built: browsers get 503",
            "install a wheel, or run tools/build-page in the source tree",
        )


def once_only(where: str, settings: ProxySettings) -> Iterator[Finding]:
    """Does ``replay_cache`` answer, and does it remember?"""
    if not settings.replay_cache:
        return
    if settings.replay_cache == "local":
        yield Finding(
            where,
            "replay_cache = local: each worker process lets a token pass once",
            "use memcached or redis where a token shall open one console in all",
            Kind.WARNING,
        )
        return
    # With the name's place only: the URL may hold a password.
    place = settings.replay_cache.rpartition("@")[2]
    try:
        guard = replay_guard(settings.replay_cache)
        if guard is None:
            return
        passed = [_passes(guard.claim, f"check-{secrets.token_hex(8)}") for _ in range(3)]
    except (ConsoleError, MksFilterError) as exc:
        yield Finding(
            where, f"replay_cache: {exc}", "start it, or open the way to it: consoles are refused"
        )
        return
    if all(passed):
        yield Finding(where, f"replay_cache at {place} answers and remembers", kind=Kind.GOOD)
    else:
        yield Finding(
            where,
            f"replay_cache at {place} takes a token for new that it has seen: links open more "
            f"than one console",
            "give it memory, and no policy that evicts (maxmemory-policy noeviction)",
        )


def _passes(claim: Callable[[str, int], object], name: str) -> bool:
    """Whether *name* passes once and no more."""
    until = int(time.time()) + 60
    claim(name, until)
    try:
        claim(name, until)
    except TokenReplayed:
        return True
    return False


def world(where: Callable[[str], str], settings: ProxySettings) -> Iterator[Finding]:
    """Networks that leave nobody out."""
    found = False
    for option, what in _WORLD.items():
        for text in getattr(settings, option):
            try:
                network = ip_network(text.strip(), strict=False)
            except ValueError:
                continue  # told by what parses it
            # Half of all addresses is not meant either.
            if network.prefixlen <= 1:
                found = True
                yield Finding(
                    where(option),
                    f"{option} has {text}: {what}",
                    "name the networks that are meant",
                )
    if not found:
        yield Finding(where("trusted_proxies"), "no network is open to the world", kind=Kind.GOOD)


def secrets_in_files(files: ConfigurationFiles) -> Iterator[Finding]:
    """Secrets in configuration files that others can read."""
    told = set()
    for written in files.groups:
        held = [
            option
            for option, value in written.options.items()
            if value and (option in _SECRETS or ("://" in value and "@" in value))
        ]
        if not held or written.file in told:
            continue
        mode = mode_of_secret(written.file)
        if mode:
            told.add(written.file)
            yield Finding(
                written.where,
                f"holds {', '.join(held)}, and {mode}",
                "chmod 0640 it, with the service's group; better: password_file",
            )


def audit_places(where: Callable[[str], str], audit: AuditSettings) -> Iterator[Finding]:
    """Can this user write its events there?"""
    path = audit.file
    if path:
        directory = os.path.dirname(path) or "."
        fault = ""
        if not os.path.isabs(path):
            fault = "is not an absolute path: each process writes where it was started"
        elif os.path.islink(path) or (os.path.exists(path) and not os.path.isfile(path)):
            fault = "is no ordinary file, and nothing is written to it"
        elif not os.access(path if os.path.exists(path) else directory, os.W_OK):
            fault = "cannot be written by this user"
        if fault:
            yield Finding(where("audit_file"), f"audit_file {path} {fault}", "correct it")
    if audit.syslog and not _is_socket(audit.syslog):
        yield Finding(
            where("audit_syslog"),
            f"audit_syslog {audit.syslog} is no socket",
            "start the syslog service, or write where its socket is (/dev/log)",
        )


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False
