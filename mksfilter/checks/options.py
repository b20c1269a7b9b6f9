"""Checks that hold for every file with our options in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from urllib.parse import parse_qs, urlsplit

from oslo_config import cfg

from mksfilter import config
from mksfilter.auth.keys import KeyRepository
from mksfilter.checks.finding import Finding, Kind
from mksfilter.exceptions import ConfigurationError
from mksfilter.issuer import token_url

__all__ = [
    "base_url",
    "errors_of",
    "key_repository",
    "times",
    "unknown",
    "unused_vcenters",
    "vcenter_names",
    "vcenters",
]

#: What the page takes as ``path=`` (see ``page/src/address.js``).
_SOCKET_PATH = re.compile(r"/?(?:[\w.~%-]+/)*(?:websockify)?", re.ASCII)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def unknown(found: Iterable[config.Unknown]) -> Iterator[Finding]:
    """Options and groups that nobody reads."""
    return (Finding(each.where, each.problem, each.remedy) for each in found)


def errors_of(where: str, *attempts: Callable[[], object]) -> Iterator[Finding]:
    """What each of *attempts* is refused with; an error's one line names its remedy."""
    for attempt in attempts:
        try:
            attempt()
        except ConfigurationError as exc:
            yield Finding(where, str(exc))


def key_repository(where: str, path: str) -> Iterator[Finding]:
    """Can this user sign and verify with the keys of *path*?"""
    repository = KeyRepository(path)
    try:
        repository.load()
    except ConfigurationError as exc:
        yield Finding(where, str(exc))
        return
    primary = repository.primary().kid
    yield Finding(where, f"keys in {path}: primary is {primary}", kind=Kind.GOOD)


def base_url(where: str, url: str, option: str = "webmks_proxy_base_url") -> Iterator[Finding]:
    """Will browsers get to the console page, and will nobody else see their tokens?

    :param option: that says so.
    """
    try:
        token_url(url, "")
    except ConfigurationError as exc:
        yield Finding(where, str(exc))
        return
    parts = urlsplit(url)
    named = f"{option} {url}"
    good = True
    for path in parse_qs(parts.query).get("path", []):
        if not _SOCKET_PATH.fullmatch(path):
            good = False
            yield Finding(
                where,
                f"{named} has path={path}, where no WebSocket of ours is",
                "name it from the root of the URL, as in path=cell1/mks/websockify",
            )
    if parts.hostname in _LOOPBACK:
        yield Finding(
            where,
            f"{named} is this machine, which no browser elsewhere reaches",
            "write the address that browsers use",
        )
    elif parts.scheme == "http":
        yield Finding(
            where,
            f"{named} is not HTTPS: anybody on the way can read tokens and consoles",
            "write https:// and terminate TLS at the proxy or in front of it",
        )
    elif good:
        yield Finding(where, f"{option}: consoles open at {url}", kind=Kind.GOOD)


def times(where: str, token_ttl: int, session_lifetime: int) -> Iterator[Finding]:
    """Does a session outlive the link that opens it?"""
    if 0 < session_lifetime < token_ttl:
        yield Finding(
            where,
            f"session_lifetime {session_lifetime} is shorter than token_ttl {token_ttl}, so the "
            f"last {token_ttl - session_lifetime} seconds of every link open nothing",
            "make session_lifetime longer or token_ttl shorter",
        )


def vcenter_names(conf: cfg.ConfigOpts, section: Mapping[str, str] | None = None) -> list[str]:
    """What ``vcenters`` says; in the paste *section* before the configuration file."""
    if section and "vcenters" in section:
        return [name.strip() for name in section["vcenters"].split(",") if name.strip()]
    return list(conf[config.GROUP].vcenters)


def vcenters(
    conf: cfg.ConfigOpts, files: config.ConfigurationFiles, names: Sequence[str]
) -> Iterator[Finding]:
    """Is every ``[vcenter.NAME]`` group among *names* there and complete?"""
    if twice := config.repeated(names):
        yield Finding(files.where(config.GROUP, "vcenters"), f"vcenters names {twice!r} twice")
    for name in names:
        where = files.where(config.GROUP, "vcenters").partition(" [")[0]
        if next(files.named(f"vcenter.{name}"), None) is None:
            yield Finding(where, f"vcenters names {name!r}", f"add a group [vcenter.{name}]")
            continue
        for fault in config.vcenter_faults(conf, name):
            yield Finding(next(files.named(f"vcenter.{name}")).file, fault)
    yield from unused_vcenters(files, names)


def unused_vcenters(files: config.ConfigurationFiles, names: Sequence[str]) -> Iterator[Finding]:
    """Groups that *names* does not name: perhaps left over, perhaps forgotten."""
    for unused in config.unused_groups(files, names):
        yield Finding(unused.where, unused.problem, unused.remedy, Kind.WARNING)
