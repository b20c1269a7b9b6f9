"""Whether a configuration starts, tried out in a process of its own that ends right after.

What a worker makes (vCenter sessions, the replay cache) must be made after gevent's patches, which
gunicorn's master must not have.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NoReturn

from gunicorn import sock
from gunicorn.arbiter import Arbiter

from mksfilter.exceptions import ConfigurationError, MksFilterError
from mksfilter.proxy.server.state import Application, ServerState, constructed

__all__ = ["in_child", "of_applications", "of_reload"]

#: Seconds that it may take.
_SECONDS: Final = 60.0


def of_applications(applications: Iterable[Application]) -> str:
    """Start *applications* as a worker would.

    :returns: in one line why they do not start; empty: they do.
    """
    return in_child(lambda: _start(applications))


def of_reload(server: Any) -> str:
    """Do what SIGHUP will do: read everything again, and start it.

    :param server: gunicorn's ``BaseApplication``.
    :returns: in one line why that fails; empty: it does not.
    """
    return in_child(lambda: _reload(server))


def in_child(work: Callable[[], None], seconds: float = _SECONDS) -> str:
    """Do *work* in a child.

    :param seconds: that it may take.
    :returns: in one line why it failed; empty: it did not.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        _do_and_exit(work, writer)
    os.close(writer)
    said, deadline = b"", time.monotonic() + seconds
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            more = pipe.read(65536)
            if not more:
                break
            said += more
        else:
            said = f"the proxy does not start within {seconds:g} seconds".encode()
            os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):  # gunicorn has reaped it
        os.waitpid(child, 0)
    return said.decode("utf-8", errors="replace")


def _reload(server: Any) -> None:
    before = set(map(id, constructed()))
    server.reload()
    _check_tls(server)
    server.callable = None  # or gunicorn would answer with the application of before
    server.wsgi()
    _start([each for each in constructed() if id(each) not in before])


def _check_tls(server: Any) -> None:
    if not server.cfg.is_ssl:
        return
    try:
        sock.ssl_context(server.cfg)
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        name_of = getattr(server, "name_of", lambda setting: getattr(server.cfg, setting))
        names = " and ".join(
            f"{setting} {name_of(setting)}" for setting in _TLS_FILES if name_of(setting)
        )
        raise ConfigurationError(f"{names}: cannot be used together ({exc})") from exc


_TLS_FILES: Final = ("certfile", "keyfile", "ca_certs")


def _start(applications: Iterable[Application]) -> None:
    from gevent import monkey

    monkey.patch_all()
    ServerState(applications).start()


def _do_and_exit(work: Callable[[], None], writer: int) -> NoReturn:
    problem = ""
    try:
        for number in (*Arbiter.SIGNALS, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        work()
    except MksFilterError as exc:
        problem = str(exc)
    except BaseException as exc:
        problem = f"the proxy cannot start: {type(exc).__name__}: {exc}"
    finally:
        os.write(writer, problem.encode("utf-8", errors="replace"))
        # Nothing of the parent's is to be flushed or cleaned up twice.
        os._exit(0)
