"""A small record that the processes of one node share: a JSON object in a file.

Workers are processes of their own, started by whatever server, replaced one by one and killed now
and then. A file in the runtime directory outlives each of them, needs no process that keeps it, and
its lock goes with the process that held it. What is written replaces the whole file at once, so
that a reader needs no lock. Where no file can be had, the record is the process's own.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from mksfilter.config import VCenterSettings
from mksfilter.log import event

__all__ = ["SharedRecord"]

LOG = logging.getLogger(__name__)

_POLL: Final = 0.02
_LOCK_SECONDS: Final = 1.0  # for a change, which takes microseconds


class SharedRecord:
    """A JSON object; every value in it is to be taken for another process's. Thread-safe.

    :param path: of the file; ``""``: the record is not shared.
    """

    def __init__(self, path: str = "") -> None:
        self._path = path
        self._lock = threading.RLock()
        self._own: dict[str, Any] = {}
        self._seen: tuple[int, int, int] | None = None
        self._complained = False

    @classmethod
    def of(cls, settings: VCenterSettings, directory: str, topic: str = "") -> SharedRecord:
        """That of a vCenter and the account there, which two groups may name.

        :param directory: where the records of this node are; ``""``: nowhere.
        :param topic: what is shared, where it has a record of its own.
        """
        if not directory:
            return cls()
        account = (settings.host.lower(), str(settings.port), settings.username.lower())
        name = hashlib.sha256("\0".join(account).encode()).hexdigest()[:16]
        suffix = f"-{topic}" if topic else ""
        return cls(os.path.join(directory, f"vcenter-{name}{suffix}.json"))

    @property
    def shared(self) -> bool:
        """Whether other processes see it."""
        return bool(self._path)

    def read(self) -> dict[str, Any]:
        """What it holds now; a file that is missing, or cannot be read, holds nothing new."""
        if self._path:
            with self._lock:
                try:
                    self._load()
                except FileNotFoundError:
                    pass  # nobody has written anything yet; where nobody can, change() tells
                except (OSError, ValueError) as exc:
                    self._complain(exc)
        return dict(self._own)

    def change(self, edit: Callable[[dict[str, Any]], None]) -> None:
        """Have *edit* change it, while no other process does."""
        with self.alone("record", _LOCK_SECONDS):
            record = self.read()
            edit(record)
            with self._lock:
                self._own = record
                if self._path:
                    try:
                        self._store(record)
                    except OSError as exc:
                        self._complain(exc)

    @contextlib.contextmanager
    def alone(self, purpose: str, seconds: float) -> Iterator[bool]:
        """Keep others with the same *purpose* out, those of other processes of this node too, and
        wait for that *seconds* at the most. Yields whether it is so."""
        try:
            lock = self._open_lock(purpose)
        except OSError as exc:
            self._complain(exc)
            lock = -1
        if lock < 0:
            yield True
            return
        try:
            yield _locked(lock, seconds)
        finally:
            os.close(lock)

    def _open_lock(self, purpose: str) -> int:
        if not self._path:
            return -1
        lock = os.open(f"{self._path}.{purpose}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._give_to_the_directorys_owner(lock)
        return lock

    def _load(self) -> None:
        with open(self._path, encoding="utf-8") as file:
            info = os.fstat(file.fileno())
            seen = (info.st_ino, info.st_mtime_ns, info.st_size)
            if seen == self._seen:
                return
            record = json.loads(file.read(65536) or "{}")
            if not isinstance(record, dict):
                raise ValueError("not a JSON object")
            self._own, self._seen = record, seen

    def _store(self, record: dict[str, Any]) -> None:
        directory, name = os.path.split(self._path)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                self._give_to_the_directorys_owner(file.fileno())
                json.dump(record, file)
            os.replace(temporary, self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        self._seen = None

    def _give_to_the_directorys_owner(self, descriptor: int) -> None:
        """A command that root runs must not lock the service out."""
        if not os.geteuid():
            info = os.stat(os.path.dirname(self._path))
            os.fchown(descriptor, info.st_uid, info.st_gid)

    def _complain(self, exc: Exception) -> None:
        if not self._complained:
            self._complained = True
            LOG.warning(event("record-not-shared", file=self._path, detail=exc))


def _locked(lock: int, seconds: float) -> bool:
    """Take it without blocking: the loop of a worker must go on meanwhile."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL)
        else:
            return True
