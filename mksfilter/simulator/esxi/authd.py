"""An ESXi host's authd, port 902 in real life: how consoles of ticket type ``mks`` are reached.

A dialogue of lines, in the clear up to the banner and in TLS after it; then a second TLS on the
same TCP socket, not inside the first, over which the client repeats the random string it sent
with ``THUMBPRINT``, and the display stream. The digest in the answer to ``THUMBPRINT`` is that of
the second certificate.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import gevent
from gevent import socket

from mksfilter.log import event
from mksfilter.simulator.esxi.consoles import Consoles
from mksfilter.simulator.esxi.endpoint import HANDSHAKE_TIMEOUT, Endpoint, secure
from mksfilter.simulator.esxi.stream import ByteStream
from mksfilter.simulator.model.inventory import VM
from mksfilter.simulator.model.tickets import Ticket, Tickets
from mksfilter.simulator.net.certificates import Certificate
from mksfilter.simulator.net.sockets import PeerAddress, Socket

__all__ = ["Authd"]

LOG = logging.getLogger(__name__)
_BANNER = (
    b"220 VMware Authentication Daemon Version 1.10: SSL Required, "
    b"ServerDaemonProtocol:SOAP, MKSDisplayProtocol:VNC , , \r\n"
)
_MAX_LINE = 4096


class _Refused(Exception):
    """The last line that a client gets."""


class Authd:
    """The authd of one host.

    :param endpoint: what it shares with the host's other endpoint.
    :param display: the certificate of the second TLS.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        tickets: Tickets,
        consoles: Consoles,
        display: Certificate,
    ) -> None:
        self._endpoint = endpoint
        self._tickets = tickets
        self._consoles = consoles
        self._display = display

    def handle(self, sock: Socket, address: PeerAddress) -> None:
        if self._endpoint.held(sock):
            return
        try:
            with gevent.Timeout(HANDSHAKE_TIMEOUT):
                opened = self._open(sock)
        except (OSError, gevent.Timeout):
            sock.close()
            return
        if opened is not None:
            vm, ticket, stream = opened
            self._consoles.run(
                vm,
                stream,
                client=str(address[0]),
                user=ticket.user,
                handshake=self._endpoint.host.state.handshake == "full",
            )

    def _open(self, sock: Socket) -> tuple[VM, Ticket, ByteStream] | None:
        sock.sendall(_BANNER)
        tls = secure(sock, self._endpoint.context)
        if tls is None:
            return None
        dialogue = _Dialogue(tls)
        try:
            ticket, vm = self._log_in(dialogue)
            word = dialogue.command("THUMBPRINT")
            dialogue.say(f"200 {self._digest()}")
            config_file, _, protocol = dialogue.command("CONNECT").rpartition(" ")
            if (config_file, protocol) != (vm.config_file, "mks"):
                raise _Refused("553 Virtual machine does not exist.")
            dialogue.say("200 Connect mks")
        except _Refused as refusal:
            LOG.info(event("authd-refused", host=self._endpoint.host.name, answer=refusal))
            dialogue.say(str(refusal))
            tls.close()
            return None
        display = secure(socket.socket(fileno=tls.detach()), self._endpoint.presents(self._display))
        if display is None:
            return None
        if _exactly(display.recv, len(word)) != word.encode():
            display.close()
            return None
        return vm, ticket, ByteStream(display)

    def _log_in(self, dialogue: _Dialogue) -> tuple[Ticket, VM]:
        secret = dialogue.command("USER")
        dialogue.say("331 Password required.")
        ticket = self._tickets.redeem(secret, "mks")
        if (
            dialogue.command("PASS") != secret
            or ticket is None
            or ticket.vm is None
            or not self._endpoint.serves(ticket.vm)
        ):
            raise _Refused("530 Login incorrect.")
        dialogue.say("230 User logged in.")
        if self._consoles.full(ticket.vm):
            raise _Refused("552 Virtual machine is busy.")
        return ticket, ticket.vm

    def _digest(self) -> str:
        host = self._endpoint.host
        digest = self._display.digests()["sha256" if host.strict else "sha1"]
        return digest[::-1] if host.state.wrong_display_certificate else digest


class _Dialogue:
    """Lines in, lines out."""

    def __init__(self, sock: Socket) -> None:
        self._socket = sock

    def say(self, line: str) -> None:
        self._socket.sendall(f"{line}\r\n".encode())

    def command(self, verb: str) -> str:
        """The argument of the next line, which has to be a *verb* command."""
        # Byte by byte: what follows the last line belongs to the second TLS.
        line = b""
        while not line.endswith(b"\n"):
            line += _exactly(self._socket.recv, 1)
            if len(line) > _MAX_LINE:
                raise _Refused("500 Line too long.")
        word, _, argument = line.decode("latin-1").strip().partition(" ")
        if word.upper() != verb:
            raise _Refused(f"503 {verb} expected.")
        return argument


def _exactly(recv: Callable[[int], bytes], count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = recv(count - len(data))
        if not piece:
            raise ConnectionError("the client left")
        data += piece
    return data
