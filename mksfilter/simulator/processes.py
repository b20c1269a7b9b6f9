"""Child processes that end with their parent, whatever ends it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import IO

__all__ = ["Children"]

PR_SET_PDEATHSIG = 1  # prctl(2)


class Children:
    """Starts processes and ends all of them on exit; a context manager.

    :param grace: seconds between SIGTERM and SIGKILL.
    :ivar terminated: :meth:`terminate` was called.
    """

    def __init__(self, *, grace: float = 10.0) -> None:
        self.terminated = False
        self._grace = grace
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(
        self,
        args: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdout: int | IO[str] | None = subprocess.PIPE,
        stderr: int | IO[str] | None = None,
        pass_fds: Sequence[int] = (),
        user: str | None = None,
    ) -> subprocess.Popen[str]:
        """Start *args* in a process group of its own, so that a Ctrl-C is ours to pass on.

        :param user: who runs it, where we are root; None: as we are.
        """
        process = subprocess.Popen(  # noqa: S603 - a list of arguments, no shell
            args,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
            user=user,
            text=True,
            start_new_session=True,
            preexec_fn=_die_with(os.getpid()),
        )
        self._processes.append(process)
        if self.terminated:
            process.terminate()
        return process

    def first_dead(self) -> subprocess.Popen[str] | None:
        """The first child that has ended, if any has."""
        return next((p for p in self._processes if p.poll() is not None), None)

    def wait(self) -> subprocess.Popen[str]:
        """Block until any child ends, and return it."""
        ended = threading.Event()
        for process in self._processes:
            threading.Thread(target=_wait_for, args=(process, ended), daemon=True).start()
        ended.wait()
        dead = self.first_dead()
        assert dead is not None
        return dead

    def terminate(self) -> None:
        """Send SIGTERM to every child, and to each that is started from now on.

        May be called by a signal handler: whoever waits for a child sees it end. A handler that
        raises instead may do so in a callback, where Python ignores exceptions.
        """
        self.terminated = True
        self._terminate_all()

    def stop(self) -> None:
        """End every child: SIGTERM, and SIGKILL to what is left after the grace."""
        self._terminate_all()
        for process in reversed(self._processes):
            try:
                process.wait(self._grace)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            for stream in (process.stdout, process.stderr):
                if stream:
                    stream.close()
        self._processes.clear()

    def _terminate_all(self) -> None:
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()


def _wait_for(process: subprocess.Popen[str], ended: threading.Event) -> None:
    process.wait()
    ended.set()


def _die_with(parent: int) -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def in_child() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # the parent ended before prctl was called
            os._exit(1)

    return in_child
