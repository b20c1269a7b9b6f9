"""The key repository: a directory of signing keys that rotates without a restart.

The form is that of keystone's Fernet repository. Files are named by number and hold one key each
in base64url: ``0`` is staged (it verifies, and signs nothing yet), the highest number is the
primary (it signs), those between are active (they verify what was signed before). Rotation
promotes ``0`` to a new highest number and stages a new ``0``; once the directory is copied
everywhere before the next rotation, every node knows a key before any node signs with it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import fcntl
import logging
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from mksfilter.auth.token import MIN_KEY_BYTES, Key
from mksfilter.auth.weak_keys import weakness
from mksfilter.exceptions import KeyRepositoryError, TokenKeyUnknown
from mksfilter.log import event
from mksfilter.private_files import Place, directory_fault, file_fault, owner_name, place_of

__all__ = ["DEFAULT_MAX_ACTIVE_KEYS", "KeyEntry", "KeyRepository", "alone_in"]

LOG = logging.getLogger(__name__)

DEFAULT_MAX_ACTIVE_KEYS = 3
#: Seconds between two looks at the directory.
CHECK_INTERVAL = 1.0
#: Looks that unknown key names may force in between. Forged names must not keep the disk busy.
FORCED_CHECKS = 4
#: Seconds for which a key outlives its file, for copying tools that replace 0 before they write
#: its successor: without it the key being promoted would be unknown for that moment.
VANISHED_GRACE = 5.0

_STAGED = 0
_MAX_FILE = 4096
# How often reading starts anew because a volume was replaced meanwhile.
_READINGS = 5


@dataclasses.dataclass(frozen=True)
class KeyEntry:
    """One key as ``mksfilter keys list`` shows it; holds no key material.

    :param created: seconds since the epoch.
    """

    number: int
    role: str
    kid: str
    created: float


@dataclasses.dataclass(frozen=True)
class _Snapshot:
    fingerprint: tuple[tuple[str, int, int, int, int], ...]
    primary: Key
    by_kid: Mapping[str, Key]


class KeyRepository:
    """A :class:`~mksfilter.auth.token.KeySource` over a directory.

    It is read at the first use and again when it changes. A repository that has become unusable
    (gone, open to others) is refused as at the start: a key that others can read signs nothing.
    """

    def __init__(self, path: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """:param clock: seconds, never running backwards."""
        self.path = os.path.abspath(path)
        self._clock = clock
        self._lock = threading.Lock()
        # One attribute, so that a thread sees keys or the reason why there are none.
        self._state: _Snapshot | KeyRepositoryError = KeyRepositoryError("not read yet")
        self._vanished: dict[str, tuple[Key, float]] = {}
        self._next_check = float("-inf")
        self._forced_left = FORCED_CHECKS

    def primary(self) -> Key:
        """The key that signs.

        :raises KeyRepositoryError: the repository is missing, unreadable, too open or too weak.
        """
        return self._current().primary

    def get(self, kid: str) -> Key:
        """The key named *kid*.

        :raises TokenKeyUnknown: it is not, or no longer, in the repository.
        :raises KeyRepositoryError: the repository is missing, unreadable, too open or too weak.
        """
        key = self._current().by_kid.get(kid) or self._remembered(kid)
        if key is None and self._force():
            key = self._current().by_kid.get(kid)
        if key is None:
            raise TokenKeyUnknown(f"key {kid} is not in {self.path}; copy the keys to this node")
        return key

    def load(self) -> None:
        """Read the repository now, so that a broken one is found at the start.

        :raises KeyRepositoryError: it is missing, unreadable, too open or too weak.
        """
        with self._lock:
            self._check()
        self._current()

    def look(self) -> tuple[frozenset[str], str]:
        """Read the repository if it changed.

        :returns: names of the keys that are good now, and of the primary one.
        :raises KeyRepositoryError: it is missing, unreadable, too open or too weak.
        """
        current = self._current()
        now = self._clock()
        kept = (kid for kid, (_, until) in list(self._vanished.items()) if now < until)
        return frozenset([*current.by_kid, *kept]), current.primary.kid

    def created(self) -> dict[int, float]:
        """When each key was made (seconds since the epoch), by its number.

        :raises KeyRepositoryError: the repository is missing, unreadable, too open or too weak.
        """
        return {
            number: modified / 1e9
            for name, _, modified, _, _ in self._current().fingerprint
            if (number := _number(name)) is not None
        }

    def entries(self) -> list[KeyEntry]:
        """All keys, by number.

        :raises KeyRepositoryError: the repository is missing, unreadable, too open or too weak.
        """
        keys = _read(self.path)
        highest = max(keys)
        path = _place(self.path).path
        with _explained(self.path):
            return [
                KeyEntry(
                    number=number,
                    role=_role(number, highest),
                    kid=key.kid,
                    created=os.stat(os.path.join(path, str(number))).st_mtime,
                )
                for number, key in sorted(keys.items())
            ]

    def setup(self) -> None:
        """Make the directory with a staged key and a primary one.

        :raises KeyRepositoryError: there are keys already, or it cannot be written.
        """
        with _explained(self.path):
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            _refuse_volume(self.path)
            with _locked(self.path) as directory:
                if any(_number(name) is not None for name in os.listdir(self.path)):
                    raise KeyRepositoryError(
                        f"key repository {self.path}: has keys already; "
                        f"use 'mksfilter keys rotate' to replace them"
                    )
                _refuse(directory_fault(os.fstat(directory), self.path))
                _write(self.path, directory, 1)
                _write(self.path, directory, _STAGED)

    def rotate(self, *, max_active_keys: int = DEFAULT_MAX_ACTIVE_KEYS) -> None:
        """Promote the staged key to primary, stage a new one, remove the oldest ones.

        A token is refused when its key is removed: between rotations there must be more time than
        a token lives.

        :param max_active_keys: files to keep, staged and primary among them.
        :raises KeyRepositoryError: the repository is unusable or cannot be written.
        :raises ValueError: fewer than three are to be kept: the key before the primary has signed
            tokens that are still good.
        """
        if max_active_keys < 3:
            raise ValueError("max_active_keys must be 3 or more: staged, primary, the one before")
        with _explained(self.path), _locked(self.path) as directory:
            _refuse_volume(self.path)
            numbers = sorted(_read(self.path))
            for name in os.listdir(self.path):
                if name.startswith(_TEMPORARY):
                    os.unlink(os.path.join(self.path, name))
            # Without a staged key (a rotation was interrupted) nobody knows the next primary yet:
            # this time one is staged, and the next rotation promotes it.
            if _STAGED in numbers:
                promoted = numbers[-1] + 1
                os.rename(
                    os.path.join(self.path, str(_STAGED)), os.path.join(self.path, str(promoted))
                )
                os.fsync(directory)
                numbers = [*numbers[1:], promoted]
            _write(self.path, directory, _STAGED)
            for number in numbers[: -(max_active_keys - 1)]:
                os.unlink(os.path.join(self.path, str(number)))
            os.fsync(directory)

    def _current(self) -> _Snapshot:
        if self._clock() >= self._next_check:
            with self._lock:
                if self._clock() >= self._next_check:
                    self._forced_left = FORCED_CHECKS
                    self._check()
        state = self._state
        if isinstance(state, KeyRepositoryError):
            # The tracebacks of earlier raises must not pile up on the kept one.
            raise state.with_traceback(None)
        return state

    def _force(self) -> bool:
        with self._lock:
            if self._forced_left <= 0:
                return False
            self._forced_left -= 1
            self._check()
            return True

    def _remembered(self, kid: str) -> Key | None:
        key, until = self._vanished.get(kid, (None, 0.0))
        return key if key is not None and self._clock() < until else None

    def _check(self) -> None:
        now = self._clock()
        self._reread(now)
        # Set last: who comes before waits at the lock for what was read.
        self._next_check = now + CHECK_INTERVAL

    def _reread(self, now: float) -> None:
        before = self._state if isinstance(self._state, _Snapshot) else None
        try:
            fingerprint = _fingerprint(self.path)
            if before is not None and fingerprint == before.fingerprint:
                return
            keys = _read(self.path)
        except KeyRepositoryError as exc:
            if before is not None:
                LOG.error(event("key-repository-unusable", path=self.path, detail=exc))
            self._state = exc
            return
        after = _Snapshot(fingerprint, keys[max(keys)], {key.kid: key for key in keys.values()})
        self._vanished = {k: v for k, v in self._vanished.items() if v[1] > now}
        if before is not None:
            # A rotation leaves most keys in place. A set of which nothing is left was exchanged,
            # since a key has leaked: the old ones are dead at once.
            rotated = not after.by_kid.keys().isdisjoint(before.by_kid)
            if not rotated:
                self._vanished.clear()
            for kid, key in before.by_kid.items() if rotated else ():
                if kid not in after.by_kid:
                    self._vanished[kid] = (key, now + VANISHED_GRACE)
        self._state = after
        LOG.info(
            event("key-repository-read", path=self.path, keys=len(keys), primary=after.primary.kid)
        )


_TEMPORARY = ".new-"


def _number(name: str) -> int | None:
    """The number that is a key file's name; None for any other file."""
    return int(name) if name.isascii() and name.isdigit() else None


def _role(number: int, highest: int) -> str:
    if number == highest:
        return "primary"
    return "staged" if number == _STAGED else "active"


def _place(path: str) -> Place:
    """Where the keys of *path* are read from."""
    with _explained(path):
        return place_of(path)


def _fingerprint(path: str) -> tuple[tuple[str, int, int, int, int], ...]:
    """Differs when a file was added, replaced, rewritten or its mode or owner changed."""
    place = _place(path)
    with _explained(path):
        found = []
        for directory in {path, place.path}:
            own = os.stat(directory)
            found.append((directory, own.st_ino, own.st_mtime_ns, own.st_uid, own.st_mode))
        with os.scandir(place.path) as files:
            for file in files:
                if _number(file.name) is None:
                    continue
                with contextlib.suppress(FileNotFoundError):  # renamed by a rotation
                    info = os.stat(file.path)
                    found.append(
                        (file.name, info.st_ino, info.st_mtime_ns, info.st_ctime_ns, info.st_mode)
                    )
    return tuple(sorted(found))


def _read(path: str) -> dict[int, Key]:
    for _ in range(_READINGS):
        place = _place(path)
        if place.fault:
            raise KeyRepositoryError(f"{place.fault}; {_COMPROMISED}")
        try:
            keys = _read_from(path, place)
        except KeyRepositoryError:
            if _place(path) == place:
                raise
            continue
        # A volume is replaced whole: files of two of its states do not go together.
        if not place.volume or _place(path) == place:
            break
    else:
        raise KeyRepositoryError(f"key repository {path}: changes all the time")
    if not set(keys) - {_STAGED}:
        raise KeyRepositoryError(
            f"key repository {path}: no primary key in it; run 'mksfilter keys setup'"
        )
    return keys


def _read_from(path: str, place: Place) -> dict[int, Key]:
    with _explained(path):
        info = os.stat(place.path)
        if not stat.S_ISDIR(info.st_mode):
            raise KeyRepositoryError(f"key repository {path}: not a directory")
        _refuse(directory_fault(info, place.path, volume=place.volume))
        numbers = [
            number for name in os.listdir(place.path) if (number := _number(name)) is not None
        ]
    keys: dict[int, Key] = {}
    for number in numbers:
        file = os.path.join(place.path, str(number))
        # A rotation may rename or remove the file between the listing and now.
        with _explained(file, volume=place.volume), contextlib.suppress(FileNotFoundError):
            keys[number] = _read_key(file, volume=place.volume, owner=info.st_uid)
    return keys


def _read_key(file: str, *, volume: bool, owner: int) -> Key:
    with open(file, "rb") as stream:
        _refuse(file_fault(os.fstat(stream.fileno()), file, volume=volume, owner=owner))
        text = stream.read(_MAX_FILE).strip()
    try:
        secret = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        # Not chained: the original error may quote the text.
        raise KeyRepositoryError(f"key {file}: not base64url; {_REPLACE}") from None
    if len(secret) < MIN_KEY_BYTES:
        raise KeyRepositoryError(
            f"key {file}: {len(secret)} bytes, and a key needs {MIN_KEY_BYTES}; {_REPLACE}"
        )
    if why := weakness(secret, text):
        raise KeyRepositoryError(f"key {file}: a well-known or guessable key ({why}); {_REPLACE}")
    return Key(secret)


_REPLACE = "remove it and make keys with 'mksfilter keys setup'"
_COMPROMISED = "make new keys if others may have read these"


def _refuse(fault: str) -> None:
    if fault:
        raise KeyRepositoryError(f"{fault}; {_COMPROMISED}")


def _refuse_volume(path: str) -> None:
    if place_of(path).volume:
        raise KeyRepositoryError(
            f"key repository {path}: a volume of Kubernetes; change the keys where its Secret is "
            f"made from, and replace the Secret"
        )


def _write(path: str, directory: int, number: int) -> None:
    """A new key, there whole or not at all."""
    temporary = os.path.join(path, _TEMPORARY + secrets.token_hex(8))
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as stream:
            owner = os.fstat(directory)
            if os.geteuid() == 0:
                # Rotated by root, read by nova: keys stay the directory owner's.
                os.fchown(stream.fileno(), owner.st_uid, owner.st_gid)
            stream.write(base64.urlsafe_b64encode(secrets.token_bytes(MIN_KEY_BYTES)) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(temporary, os.path.join(path, str(number)))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    os.fsync(directory)


@contextlib.contextmanager
def alone_in(path: str) -> Iterator[None]:
    """Around a change of the key repository *path*: no other process changes it meanwhile.

    :raises KeyRepositoryError: it is not there, or may not be used.
    """
    with _explained(path), _locked(path):
        yield


@contextlib.contextmanager
def _locked(path: str) -> Iterator[int]:
    """A descriptor of the directory, locked against another setup or rotation."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield directory
    finally:
        os.close(directory)


@contextlib.contextmanager
def _explained(path: str, *, volume: bool = False) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as exc:
        raise KeyRepositoryError(
            f"key repository {path}: no such file or directory; run 'mksfilter keys setup' "
            f"or correct the option key_repository"
        ) from exc
    except PermissionError as exc:
        remedy = (
            "set the pod's fsGroup"
            if volume
            else "give it to the user that the service runs as (chown -R)"
        )
        raise KeyRepositoryError(
            f"key repository {path}: user {owner_name(os.geteuid())} may not use it"
            f"{_owner(path)}; {remedy}"
        ) from exc
    except OSError as exc:
        raise KeyRepositoryError(f"key repository {path}: {exc.strerror or exc}") from exc


def _owner(path: str) -> str:
    try:
        return f", it belongs to {owner_name(os.stat(path).st_uid)}"
    except OSError:
        return ""
