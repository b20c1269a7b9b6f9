"""Checks that hold for every file with our options in it."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from urllib.parse import parse_qs, urlsplit

from oslo_config import cfg

from mksfilter import config
from mksfilter.auth.keys import KeyRepository
from mksfilter.checks.finding import Finding
from mksfilter.exceptions import ConfigurationError
from mksfilter.issuer import token_url

__all__ = [
    "base_url",
    "errors_of",
    "key_repository",
    "raw_options",
    "times",
    "unknown_options",
    "vcenter_names",
    "vcenters",
]

#: What the page takes as ``path=`` (see ``page/src/address.js``).
_SOCKET_PATH = re.compile(r"/?(?:[\w.~%-]+/)*(?:websockify)?", re.ASCII)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def raw_options(files: Sequence[str]) -> dict[str, dict[str, str]]:
    """Group -> option -> value as written, the last file winning.

    oslo.config passes over options that nobody registered; misspelt ones are such.

    :raises ConfigurationError: a file is not in INI form.
    """
    found: dict[str, dict[str, str]] = {}
    for path in files:
        sections: dict[str, dict[str, list[str]]] = {}
        try:
            cfg.ConfigParser(path, sections).parse()
        except (OSError, cfg.ParseError, UnicodeDecodeError) as exc:
            raise ConfigurationError(f"{path}: {' '.join(str(exc).split())}") from exc
        for group, options in sections.items():
            named = found.setdefault(group, {})
            named.update({key: values[-1] for key, values in options.items()})
    return found


def unknown_options(
    where: str, given: Iterable[str], known: Collection[str], *, also: Collection[str] = ()
) -> Iterator[Finding]:
    """Options that nobody reads.

    :param also: those that are read, but should not be suggested.
    """
    for name in given:
        if name not in known and name not in also:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            remedy = f"did you mean {near[0]}?" if near else "remove it"
            yield Finding(where, f"unknown option {name!r}", remedy)


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
    yield from errors_of(where, repository.load)


def base_url(where: str, url: str) -> Iterator[Finding]:
    """Will browsers get to the console page, and will nobody else see their tokens?"""
    try:
        token_url(url, "")
    except ConfigurationError as exc:
        yield Finding(where, str(exc))
        return
    parts = urlsplit(url)
    named = f"webmks_proxy_base_url {url}"
    for path in parse_qs(parts.query).get("path", []):
        if not _SOCKET_PATH.fullmatch(path):
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
    where: str,
    conf: cfg.ConfigOpts,
    written: Mapping[str, Mapping[str, str]],
    names: Sequence[str],
) -> Iterator[Finding]:
    """Is every ``[vcenter.NAME]`` group complete, among *names*, and free of typos?"""
    known = {opt.dest for opt in config.VCENTER_OPTS}
    for name in names:
        if f"vcenter.{name}" not in written:
            yield Finding(where, f"vcenters names {name!r}", f"add a group [vcenter.{name}]")
            continue
        yield from errors_of(
            where, functools.partial(config.vcenter_settings, conf, {"vcenters": name})
        )
    for group, options in written.items():
        prefix, _, name = group.partition(".")
        if prefix != "vcenter":
            continue
        yield from unknown_options(f"{where} [{group}]", options, known)
        if name not in names:
            yield Finding(
                where, f"[{group}] is not used", f"add {name} to vcenters, or remove the group"
            )
