"""Open consoles: who looks at which vm, and what runs over the stream to them."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import struct

import gevent
import gevent.socket
from gevent.lock import RLock

from mksfilter import log
from mksfilter.simulator.esxi import hostile
from mksfilter.simulator.esxi.keys import Keys
from mksfilter.simulator.esxi.stream import ByteStream, Stream, WebSocketStream
from mksfilter.simulator.model.events import CONNECTED, DISCONNECTED, EventLog
from mksfilter.simulator.model.inventory import VM
from mksfilter.simulator.net.sockets import Socket
from mksfilter.simulator.screen import rfb
from mksfilter.simulator.screen.screen import Screen
from mksfilter.tcp import unbracketed

__all__ = ["Console", "Consoles"]

LOG = logging.getLogger(__name__)
_STREAM_MESSAGE = 16384
_STREAM_BURST = 4
_VNC_TIMEOUT = 10.0


@dataclasses.dataclass(eq=False)
class Console:
    """One connection to the console of a VM, as ``QueryConnections`` tells of it."""

    vm: VM
    stream: Stream
    label: str
    client: str
    user: str


class Consoles:
    """All open consoles.

    :ivar events: what the vCenters remember of them, and of tickets.
    """

    def __init__(self) -> None:
        self._open: dict[str, list[Console]] = {}
        self._screens: dict[str, Screen] = {}
        self._keys: dict[str, Keys] = {}
        self._numbers = itertools.count(1)
        self.opened = 0
        self.events = EventLog()

    def of(self, vm: VM) -> list[Console]:
        """A VM's open consoles, oldest first."""
        return list(self._open.get(vm.uuid, ()))

    def full(self, vm: VM) -> bool:
        """Whether the VM allows no further console."""
        return len(self._open.get(vm.uuid, ())) >= vm.state.max_connections

    def screen(self, vm: VM) -> Screen:
        """The VM's built-in screen."""
        if vm.uuid not in self._screens:
            self._screens[vm.uuid] = Screen(
                vm.name, f"instance {vm.uuid}", f"project {vm.project_id}"
            )
        return self._screens[vm.uuid]

    def keys(self, vm: VM) -> Keys:
        """The VM's keyboard."""
        if vm.uuid not in self._keys:
            self._keys[vm.uuid] = Keys(vm.state, self.screen(vm))
        return self._keys[vm.uuid]

    def drop(self, vm: VM, labels: set[str] | None = None) -> int:
        """Reset the VM's consoles, or those with the *labels*; returns how many."""
        doomed = [c for c in self.of(vm) if labels is None or c.label in labels]
        for console in doomed:
            self._forget(console)
            console.stream.abort()
        return len(doomed)

    def finish(self, vm: VM) -> None:
        """Close the VM's consoles in good order."""
        for console in self.of(vm):
            console.stream.finish()

    def reset(self) -> None:
        """End everything and clear all screens."""
        for consoles in list(self._open.values()):
            for console in list(consoles):
                self._forget(console)
                console.stream.abort()
        self._screens.clear()
        self.events.clear()
        self._keys.clear()
        self.opened = 0

    def run(self, vm: VM, stream: Stream, *, client: str, user: str, handshake: bool) -> None:
        """Serve a console until it ends.

        :param handshake: whether the display stream starts with RFB's version, or at ServerInit.
        """
        console = Console(vm, stream, f"mks-{next(self._numbers)}", client, user)
        self._open.setdefault(vm.uuid, []).append(console)
        self.opened += 1
        vcenter = vm.vcenter
        self.events.record(CONNECTED, vcenter, vm, user)
        LOG.info(log.event("console-opened", vm=vm.name, label=console.label, client=client))
        try:
            kind = vm.state.screen
            if vm.state.hostile and isinstance(stream, WebSocketStream):
                hostile.misbehave(vm.state.hostile, stream)
            elif kind == "text":
                _Viewer(vm, self.screen(vm), self.keys(vm), stream).run(handshake=handshake)
            elif kind == "echo":
                _echo(stream)
            elif kind == "stream":
                _pour(stream)
            else:
                _relay(stream, kind, handshake=handshake)
        except OSError as exc:
            LOG.debug(log.event("console-failed", vm=vm.name, detail=exc))
        finally:
            self._forget(console)
            stream.close()
            self.events.record(DISCONNECTED, vcenter, vm, user)
            LOG.info(log.event("console-closed", vm=vm.name, label=console.label))

    def _forget(self, console: Console) -> None:
        consoles = self._open.get(console.vm.uuid, [])
        if console in consoles:
            consoles.remove(console)


class _Viewer:
    """One client of the built-in screen."""

    def __init__(self, vm: VM, screen: Screen, keys: Keys, stream: Stream) -> None:
        self._vm = vm
        self._screen = screen
        self._keys = keys
        self._stream = stream
        self._name = vm.name
        self._pixels = rfb.PixelFormat()
        self._png = False
        self._lights_wanted = self._lights_due = False
        self._dirty: set[int] = set()
        self._waiting = False
        self._lock = RLock()

    def run(self, *, handshake: bool) -> None:
        reader = rfb.RFBReader(handshake=handshake)
        if handshake:
            self._stream.send(rfb.VERSION)
        else:
            self._begin()
        self._screen.watchers.add(self._changed)
        self._keys.watchers.add(self._lights_changed)
        try:
            while data := self._stream.recv():
                was_ready = reader.ready
                events = reader.feed(data)
                for reply in reader.replies:
                    self._stream.send(reply)
                reader.replies.clear()
                if reader.ready and not was_ready:
                    self._begin()
                for event in events:
                    self._handle(event)
        except rfb.RFBError as exc:
            LOG.info(log.event("rfb-violation", vm=self._name, detail=exc))
        finally:
            self._screen.watchers.discard(self._changed)
            self._keys.watchers.discard(self._lights_changed)

    def _begin(self) -> None:
        area = self._screen.everything()
        self._stream.send(rfb.server_init(area.width, area.height, self._name, self._pixels))

    def _handle(self, event: rfb.Event) -> None:
        if isinstance(event, rfb.PixelFormat):
            self._pixels = event
        elif isinstance(event, rfb.SetEncodings):
            self._set_encodings(event.encodings)
        elif isinstance(event, rfb.KeyEvent):
            self._keys.keysym(event.keysym, event.down)
        elif isinstance(event, rfb.ScanCode):
            self._keys.scan_code(event.code, event.down)
        elif not event.incremental:
            # An area is answered for itself; what is asked for all the time remains so.
            if event.area.width * event.area.height > 1:
                self._dirty.clear()
                self._waiting = False
                self._send(self._screen.everything())
            else:
                self._send(event.area)
        else:
            self._waiting = True
            self._update()

    def _set_encodings(self, encodings: tuple[int, ...]) -> None:
        self._png = rfb.ENCODING_TIGHT_PNG in encodings
        if not self._vm.state.key_messages:
            return
        self._lights_wanted = self._lights_due = rfb.ENCODING_VMWARE_LIGHTS in encodings
        if rfb.ENCODING_VMWARE_CAPABILITIES in encodings:
            with self._lock:
                self._stream.send(rfb.vmware_capabilities())

    def _lights_changed(self) -> None:
        self._lights_due = self._lights_wanted
        if self._waiting:
            gevent.spawn(self._update)

    def _changed(self, rows: set[int]) -> None:
        self._dirty |= rows
        if self._waiting:
            # Another viewer's key may have changed the screen: its greenlet must not wait for us.
            gevent.spawn(self._update)

    def _update(self) -> None:
        if self._waiting and (self._dirty or self._lights_due):
            area = self._screen.area(self._dirty) if self._dirty else None
            self._dirty, self._waiting = set(), False
            with contextlib.suppress(OSError):
                self._send(area)

    def _send(self, area: rfb.Rectangle | None) -> None:
        with self._lock:
            rectangles = []
            if self._lights_due:
                self._lights_due = False
                rectangles.append(rfb.lights_rectangle(self._keys.lights))
            if area is not None:
                rectangles.append(
                    self._screen.png(area) if self._png else self._screen.raw(area, self._pixels)
                )
            self._stream.send(rfb.update_header(len(rectangles)) + b"".join(rectangles))


def _echo(stream: Stream) -> None:
    while data := stream.recv():
        stream.send(data)


def _pour(stream: Stream) -> None:
    """16 KiB messages as fast as they are read, until the peer goes."""
    message = bytes(range(256)) * (_STREAM_MESSAGE // 256)
    reader = gevent.spawn(_swallow, stream)
    try:
        if isinstance(stream, WebSocketStream):
            frame = struct.pack(">BBH", 0x82, 126, len(message)) + message
            while not reader.dead:
                stream.send_raw(frame * _STREAM_BURST)
        while not reader.dead:
            stream.send(message)
    finally:
        reader.kill()


def _swallow(stream: Stream) -> None:
    while stream.recv():
        pass


def _relay(stream: Stream, address: str, *, handshake: bool) -> None:
    """Pass a real VNC server through.

    Where the display stream starts at ServerInit, the handshake is played to the VNC server here.
    """
    host, _, port = address.rpartition(":")
    try:
        upstream = ByteStream(
            gevent.socket.create_connection((unbracketed(host), int(port)), _VNC_TIMEOUT)
        )
    except OSError as exc:
        LOG.warning(log.event("vnc-server-unreachable", address=address, detail=exc))
        return
    sock = upstream.socket
    try:
        version = _exactly(sock, 12)
        if handshake:
            # ESXi's first message is these 12 bytes, and VMware's client insists on it.
            stream.send(version)
        else:
            sock.sendall(rfb.VERSION)
            _exactly(sock, _exactly(sock, 1)[0])
            sock.sendall(b"\x01")
            if _exactly(sock, 4) != rfb.SECURITY_RESULT_OK:
                raise ConnectionError(f"VNC server {address} wants more than security type None")
            sock.sendall(b"\x01")
        sock.settimeout(None)
        back = gevent.spawn(_copy, upstream, stream)
        try:
            _copy(stream, upstream)
        finally:
            back.kill()
    finally:
        upstream.close()


def _copy(source: Stream, target: Stream) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv():
            target.send(data)
    target.finish()


def _exactly(sock: Socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise ConnectionError("the VNC server closed the connection")
        data += piece
    return data
