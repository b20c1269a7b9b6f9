"""A vCenter's HTTPS port: the certificate that it presents, and its restart with another one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from socket import SHUT_RDWR

from mksfilter.simulator.esxi.endpoint import hold, secure
from mksfilter.simulator.model.inventory import VCenter
from mksfilter.simulator.net.certificates import Certificate
from mksfilter.simulator.net.httpd import serve_connection
from mksfilter.simulator.net.sockets import PeerAddress, Socket
from mksfilter.simulator.vcenter.service import VCenterService

__all__ = ["Front"]


class Front:
    """
    :param issue: makes the certificate of a name (``VCenterState.certificate``), once for each.
    """

    def __init__(
        self, vcenter: VCenter, service: VCenterService, issue: Callable[[str], Certificate]
    ) -> None:
        self._vcenter = vcenter
        self._service = service
        self._issue = issue
        self._certificates: dict[str, Certificate] = {}
        self._open: set[Socket] = set()
        self._presented = vcenter.state.certificate
        vcenter.digests = self.certificate.digests()

    @property
    def certificate(self) -> Certificate:
        """The one that is presented now."""
        if self._presented not in self._certificates:
            self._certificates[self._presented] = self._issue(self._presented)
        return self._certificates[self._presented]

    def handle(self, sock: Socket, peer: PeerAddress) -> None:
        """Serve a connection."""
        self._service.counts.connections += 1
        if self._vcenter.state.silent:
            hold(sock, self._service.released)
        elif (tls := secure(sock, self.certificate.context)) is not None:
            self._open.add(tls)
            try:
                serve_connection(tls, peer[0], self._service.handle)
            finally:
                self._open.discard(tls)

    def follow(self) -> None:
        """Restart if another certificate is wanted: logins and connections end."""
        if self._presented == self._vcenter.state.certificate:
            return
        self._presented = self._vcenter.state.certificate
        self._vcenter.digests = self.certificate.digests()
        self._service.sessions.clear()
        for sock in list(self._open):
            # Closing alone would wait for whoever reads from it.
            with contextlib.suppress(OSError):
                sock.shutdown(SHUT_RDWR)
