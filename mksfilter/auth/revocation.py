"""Revocation without shared memory: a small signed list that travels with the keys.

``mksfilter revoke`` writes the file ``revocations`` into the key repository, which is copied to
every node as the keys are. A node looks at it by a timer, refuses the tokens that it names, and
ends the sessions that it names.

An entry concerns what began at a time, not what was issued: a session keeps the time of its first
token (claim ``auth_time``) through every resume token, so a node that has not yet seen the list
cannot carry a session past it. An entry goes when the last token that it could concern has
expired; a site whose sessions never end keeps its entries.

The file is one line, ``mksr1.<kid>.<payload>.<mac>``, in the form of a token and signed with a key
of its own purpose (see :mod:`mksfilter.auth.token`). ``mksfilter keys rotate`` signs it again.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import re
import threading
from collections.abc import Iterable
from typing import Final, Protocol

from cryptography.hazmat.primitives import constant_time

from mksfilter.auth.keys import alone_in
from mksfilter.auth.token import Claims, Key
from mksfilter.exceptions import RevocationListError, TokenKeyUnknown

__all__ = ["FILE_NAME", "KINDS", "Revocation", "RevocationFile", "RevocationList"]

FILE_NAME: Final = "revocations"
#: What an entry can name. ``issued-before`` names a time only.
KINDS: Final = ("session", "instance", "user", "project", "issued-before")
#: Bytes of the file. An entry has about 120.
MAX_FILE: Final = 4 * 1024 * 1024

_VERSION: Final = "mksr1"
_FORM: Final = re.compile(r"mksr1\.([0-9a-f]{12})\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{43})\n?")


class Keys(Protocol):
    """Where keys come from; :class:`mksfilter.auth.keys.KeyRepository` is one."""

    path: str

    def primary(self) -> Key:
        """The key to sign with."""

    def get(self, kid: str) -> Key:
        """:raises TokenKeyUnknown: there is no such key."""


@dataclasses.dataclass(frozen=True)
class Revocation:
    """One entry.

    :param kind: one of :data:`KINDS`.
    :param value: the session id, instance UUID, user id or project id; empty for
        ``issued-before``.
    :param at: seconds since the epoch. What began then or earlier is revoked; for
        ``issued-before`` what began earlier.
    :param until: seconds since the epoch from which no token can be concerned any more; None:
        never.
    """

    kind: str
    value: str
    at: int
    until: int | None = None

    def concerns(self, claims: Claims) -> bool:
        """Whether the session that *claims* opens or continues is revoked."""
        began = claims.began
        if self.kind == "issued-before":
            return began < self.at
        if self.kind == "session":
            return claims.session_id == self.value
        subject = {"instance": claims.iid, "user": claims.uid, "project": claims.pid}[self.kind]
        return subject == self.value and began <= self.at


class RevocationList:
    """All entries, found in a time that does not grow with their number."""

    def __init__(self, entries: Iterable[Revocation] = ()) -> None:
        # Of two entries for the same thing the later one covers the earlier.
        kept: dict[tuple[str, str], Revocation] = {}
        for entry in entries:
            known = kept.get((entry.kind, entry.value))
            if known is None or known.at <= entry.at:
                kept[entry.kind, entry.value] = entry
        self._entries = kept

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> list[Revocation]:
        """By kind and value."""
        return [self._entries[key] for key in sorted(self._entries)]

    def match(self, claims: Claims) -> Revocation | None:
        """The entry that *claims* fall under, if one does."""
        if not self._entries:
            return None
        for key in (
            ("session", claims.session_id),
            ("instance", claims.iid),
            ("user", claims.uid),
            ("project", claims.pid),
            ("issued-before", ""),
        ):
            entry = self._entries.get(key)
            if entry is not None and entry.concerns(claims):
                return entry
        return None

    def without_expired(self, now: float) -> RevocationList:
        """Those that can still concern a token."""
        return RevocationList(
            entry for entry in self._entries.values() if entry.until is None or entry.until > now
        )

    def with_entry(self, entry: Revocation) -> RevocationList:
        """These and *entry*."""
        return RevocationList([*self._entries.values(), entry])

    def sign(self, key: Key) -> str:
        """The text of the file, without its line feed."""
        document = [
            {"kind": entry.kind, "value": entry.value, "at": entry.at, "until": entry.until}
            for entry in self.entries
        ]
        payload = _encode(json.dumps(document, separators=(",", ":")).encode("utf-8"))
        signed = f"{_VERSION}.{key.kid}.{payload}"
        return f"{signed}.{key.list_mac(signed.encode('ascii')).decode('ascii')}"

    @classmethod
    def verify(cls, text: str, keys: Keys) -> RevocationList:
        """The list that *text* holds; nothing of it is looked at before its MAC.

        :raises RevocationListError: its form, its key or its MAC is not right.
        """
        match = _FORM.fullmatch(text)
        if match is None and text.startswith("mksr") and not text.startswith(f"{_VERSION}."):
            raise RevocationListError(f"of another version than {_VERSION}; upgrade this node")
        if match is None:
            raise RevocationListError(
                f"not of the form {_VERSION}.<kid>.<payload>.<mac>; copy the file again, whole"
            )
        kid, payload, mac = match.groups()
        try:
            key = keys.get(kid)
        except TokenKeyUnknown:
            raise RevocationListError(
                f"signed with key {kid}, which is not here; copy keys and list together, or sign "
                f"it again with 'mksfilter revoke --sign' where that key is"
            ) from None
        signed = f"{_VERSION}.{kid}.{payload}".encode("ascii")
        if not constant_time.bytes_eq(key.list_mac(signed), mac.encode("ascii")):
            raise RevocationListError(f"its MAC does not match key {kid}; copy the file again")
        try:
            document = json.loads(_decode(payload))
            if not isinstance(document, list):
                raise TypeError("not a list")
            return cls(_entry(item) for item in document)
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            raise RevocationListError(
                "it holds entries that this release does not know; upgrade this node"
            ) from exc


class RevocationFile:
    """The list of a key repository on disk.

    A node keeps the last good list when the file becomes unreadable: a revocation is not undone by
    a broken copy. Without any good list it is told, at the start, by :meth:`load`.
    """

    def __init__(self, keys: Keys) -> None:
        self.path = os.path.join(keys.path, FILE_NAME)
        self._keys = keys
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self.current = RevocationList()

    def load(self) -> RevocationList:
        """Read the file if it changed; an absent one is an empty list.

        :returns: the list as it is now.
        :raises RevocationListError: it cannot be read or does not verify. :attr:`current` stays.
        """
        with self._lock:
            try:
                info = os.stat(self.path)
            except FileNotFoundError:
                if self._seen is not None:
                    self._seen, self.current = None, RevocationList()
                return self.current
            except OSError as exc:
                raise self._error(exc.strerror or str(exc)) from exc
            stamp = (info.st_ino, info.st_mtime_ns, info.st_size)
            if stamp != self._seen:
                self.current = self._read(info)
                self._seen = stamp
            return self.current

    def changed(self) -> bool:
        """Whether :meth:`load` would find something new; one system call."""
        try:
            info = os.stat(self.path)
        except OSError:
            return self._seen is not None
        return (info.st_ino, info.st_mtime_ns, info.st_size) != self._seen

    def add(self, entry: Revocation, *, now: float) -> RevocationList:
        """Write the list with *entry* in it, without those that have expired.

        :raises RevocationListError: it cannot be read, verified or written.
        :raises KeyRepositoryError: there is no key to sign with.
        """
        # What another operator's command has added since this one began must not be lost.
        with alone_in(self._keys.path):
            return self._write(self.load().without_expired(now).with_entry(entry))

    def sign_again(self, *, now: float) -> RevocationList:
        """Write the list signed with the key that is primary now; called after a rotation.

        :raises RevocationListError: as :meth:`add`.
        """
        with alone_in(self._keys.path):
            current = self.load()
            if self._seen is None:
                return current
            return self._write(current.without_expired(now))

    def _read(self, info: os.stat_result) -> RevocationList:
        if info.st_size > MAX_FILE:
            raise self._error(f"{info.st_size} bytes, more than {MAX_FILE}")
        try:
            with open(self.path, encoding="ascii") as stream:
                return RevocationList.verify(stream.read(MAX_FILE), self._keys)
        except RevocationListError as exc:
            raise self._error(str(exc)) from None
        except (OSError, UnicodeDecodeError) as exc:
            raise self._error(getattr(exc, "strerror", None) or "not ASCII text") from exc

    def _write(self, revocations: RevocationList) -> RevocationList:
        text = revocations.sign(self._keys.primary())
        if len(text) >= MAX_FILE:
            raise self._error(
                "it would be longer than 4 MiB; revoke by project or by time of issue instead"
            )
        temporary = f"{self.path}.new-{os.getpid()}"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "w", encoding="ascii") as stream:
                    if os.geteuid() == 0:
                        owner = os.stat(os.path.dirname(self.path))
                        os.fchown(stream.fileno(), owner.st_uid, owner.st_gid)
                    stream.write(text + "\n")
                    stream.flush()
                    os.fsync(stream.fileno())
                os.rename(temporary, self.path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
        except OSError as exc:
            raise self._error(f"cannot be written: {exc.strerror or exc}") from exc
        return self.load()

    def _error(self, cause: str) -> RevocationListError:
        return RevocationListError(f"revocation list {self.path}: {cause}")


def _entry(item: object) -> Revocation:
    if not isinstance(item, dict) or set(item) != {"kind", "value", "at", "until"}:
        raise ValueError("not an entry")
    entry = Revocation(**item)
    if (
        entry.kind not in KINDS
        or type(entry.value) is not str
        or (entry.kind == "issued-before" and entry.value)
        or type(entry.at) is not int
        or (entry.until is not None and type(entry.until) is not int)
    ):
        raise ValueError("not an entry")
    return entry


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
