"""Audit events to the syslog service of this machine, over its datagram socket.

Facility ``authpriv``, severity ``notice`` (RFC 5424 section 6.2.1), in the form that local senders
use: without a host name, which the service adds. It forwards them to wherever the site keeps logs.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Final

from mksfilter.audit.events import AuditEvent

__all__ = ["SyslogSink"]

_PRIORITY: Final = 10 * 8 + 5
_TIMEOUT: Final = 2.0
_MONTHS: Final = "JanFebMarAprMayJunJulAugSepOctNovDec"


class SyslogSink:
    """
    :param path: of the socket, ``/dev/log`` as a rule.
    """

    name = "syslog"

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None

    def write(self, item: AuditEvent) -> None:
        """:raises OSError: nobody takes it."""
        # Not strftime's %b, which speaks the process's language.
        now = time.localtime(item.time)
        month = _MONTHS[3 * now.tm_mon - 3 : 3 * now.tm_mon]
        stamp = f"{month} {now.tm_mday:2d} {time.strftime('%H:%M:%S', now)}"
        line = f"<{_PRIORITY}>{stamp} mksfilter-audit[{os.getpid()}]: {item.to_line()}"
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.settimeout(_TIMEOUT)
                self._socket.connect(self._path)
            self._socket.send(line.encode())
        except OSError as exc:
            # A service that was restarted has a new socket.
            self.close()
            raise OSError(exc.errno, f"{self._path}: {exc.strerror or exc}") from None

    def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None
