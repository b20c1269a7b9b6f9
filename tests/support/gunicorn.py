"""gunicorn's own command with our worker, as an operator starts it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.config import VCenterSettings
from tests.support.proxy import RunningProxy, configuration

__all__ = ["gunicorn", "gunicorn_proxy"]


@contextlib.contextmanager
def gunicorn(
    paste: Path,
    *arguments: str,
    preexec: Callable[[], None] | None = None,
    **environ: str,
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Serve *paste*; the process, whose standard output has all that it says, and its base URL.

    :param arguments: more of its command line.
    :param environ: more of its environment.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn"),
                *("-k", "mksfilter.proxy.worker.ConsoleWorker"),
                *("--bind", f"fd://{listener.fileno()}", "--graceful-timeout", "2"),
                *("--paste", str(paste), *arguments),
            ],
            pass_fds=[listener.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environ},
            preexec_fn=preexec,
            start_new_session=True,
            text=True,
        )
        try:
            yield process, f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@contextlib.contextmanager
def gunicorn_proxy(
    directory: Path, vcenters: Iterable[VCenterSettings], *arguments: str, **options: object
) -> Iterator[RunningProxy]:
    """A proxy that an operator's own gunicorn serves; it does not say where its log is.

    :param arguments: of gunicorn's command line.
    :param options: as for :func:`tests.support.proxy.configuration`.
    """
    path = configuration(directory, vcenters, **{"log_level": "INFO", **options})
    paste = directory / "paste.ini"
    paste.write_text(f"[app:main]\nuse = egg:mksfilter#mksproxy\nconfig_file = {path}\n")
    log = directory / "log"
    log.touch()
    codec = TokenCodec(KeyRepository(str(directory / "keys")), "tests")
    with gunicorn(paste, *arguments) as (process, url):
        port = int(url.rpartition(":")[2])
        proxy = RunningProxy(process, log, ("127.0.0.1", port), codec, False)
        proxy.wait_until_ready()
        yield proxy
