"""As much of RFB as a relay must understand (RFC 6143): the handshake, and what a viewer may say.

Pure: bytes in, bytes out. Lengths from the peer are counted down, never allocated.
"""

from __future__ import annotations

import struct
from typing import Final

from mksfilter.exceptions import RFBViolation, UpstreamViolation

__all__ = ["GREETING", "HOST_START", "PlayedHandshake", "ViewOnlyFilter", "is_greeting"]

GREETING: Final = b"RFB 003.008\n"
_SECURITY_TYPES: Final = b"\x01\x01"
_SECURITY_NONE: Final = b"\x01"
_SECURITY_OK: Final = b"\x00\x00\x00\x00"

#: Bytes of the host that a viewer's filter has to know: its version, and the type of RFB 3.3.
HOST_START: Final = 16
_MAX_EARLY: Final = 4096
# Whose handshake a version has (section 7.1.1, and what noVNC makes of versions that no
# specification has).
_CLIENT_VERSIONS: Final = {b"RFB 003.003\n": 3, b"RFB 003.007\n": 7, GREETING: 8}
_HOST_VERSIONS: Final = {
    **_CLIENT_VERSIONS,
    b"RFB 003.006\n": 3,
    b"RFB 003.889\n": 8,
    b"RFB 004.000\n": 8,
    b"RFB 004.001\n": 8,
    b"RFB 005.000\n": 8,
}


def is_greeting(start: bytes) -> bool | None:
    """Whether a display stream begins with RFB's version message or, without it, at ServerInit.

    :param start: its first bytes; four decide.
    :returns: None while they do not yet.
    """
    if not GREETING.startswith(start[:4]):
        return False
    return True if len(start) >= 4 else None


class PlayedHandshake:
    """RFB's handshake with a client whose display stream begins at ServerInit (vSphere's authd).

    The server's part is said to the client, and the client's three replies go nowhere.
    """

    __slots__ = ("_step", "_wanted")

    def __init__(self) -> None:
        self._step = 0
        self._wanted = b""

    @property
    def done(self) -> bool:
        """Whether the client waits for ServerInit now."""
        return self._step == 3

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Take what the client said.

        :returns: messages to the client, and what follows the handshake.
        :raises RFBViolation: not a reply that RFB 3.7 or 3.8 has.
        """
        data = self._wanted + data
        answers: list[bytes] = []
        while not self.done:
            size = 12 if self._step == 0 else 1
            if len(data) < size:
                self._wanted = data
                return answers, b""
            reply, data = data[:size], data[size:]
            if self._step == 0:
                if _CLIENT_VERSIONS.get(reply, 3) == 3:
                    raise RFBViolation("not version 3.7 or 3.8 of RFB")
                answers.append(_SECURITY_TYPES)
            elif self._step == 1:
                if reply != _SECURITY_NONE:
                    raise RFBViolation("a security type that was not offered")
                answers.append(_SECURITY_OK)
            # The third reply is ClientInit; its shared flag has no receiver.
            self._step += 1
        self._wanted = b""
        return answers, data


# Messages of a client, by type (RFC 6143 section 7.5 and the community's extensions). A viewer may
# say how it wants pixels and ask for them; keys, pointer, clipboard, power, resizing are dropped.
_SET_PIXEL_FORMAT, _SET_ENCODINGS, _UPDATE_REQUEST = 0, 2, 3
_KEY, _POINTER, _CUT_TEXT = 4, 5, 6
_VMWARE, _CONTINUOUS_UPDATES, _FENCE, _XVP, _SET_DESKTOP_SIZE, _QEMU = 127, 150, 248, 250, 251, 255

_PASSES: Final = {_SET_PIXEL_FORMAT: 20, _UPDATE_REQUEST: 10}
_FIXED: Final = {_KEY: 8, _CONTINUOUS_UPDATES: 10, _XVP: 4}

# Encodings that a viewer may announce. Pseudo-encodings that make a server expect an answer which
# is dropped here (continuous updates, fences, VMware's acknowledged updates) are taken out, or the
# server would wait for it.
_ENCODINGS: Final = frozenset(
    [*range(25), 50]  # raw to ZRLE and its kin; H.264
    + [*range(-32, -22), *range(-256, -246)]  # JPEG quality, compression level
    + [-223, -224, -239, -240, -308]  # size, last rectangle, cursor, pointer position, layout
    + [-260, -307, -314]  # tight with PNG, desktop name, alpha cursor
    + [0x574D5600 + n for n in (0x64, 0x65, 0x66, 0x68)]  # VMware: cursor and keyboard lights
)
_MAX_ENCODINGS: Final = 1024


# What of its part in the handshake the client says next.
_VERSION, _CHOICE, _CHOSEN, _INIT, _DONE = range(5)


class ViewOnlyFilter:
    """Lets through what a client without rights may say, and drops the rest.

    A server must see only whole messages whose length it cannot take for another: everything else
    could hide a key press. So a message of a type not known here ends the session.

    What a client says in the handshake depends on the host: in RFB 3.3 it chooses no security type,
    the host does (section 7.1.2 and appendix A). A filter that took the byte after the version for
    a choice would be a byte behind from there on. So it waits for what the host says.

    :param handshake: whether the stream starts with the client's part of the RFB handshake.
    """

    __slots__ = ("_data", "_host", "_skip", "_step")

    def __init__(self, *, handshake: bool = True) -> None:
        self._data = b""
        self._host = b""
        self._skip = 0
        self._step = _VERSION if handshake else _DONE

    @property
    def listens(self) -> bool:
        """Whether what the host says tells how to read the client."""
        return self._step in (_VERSION, _CHOSEN)

    def hear(self, start: bytes) -> None:
        """Take the beginning of what the host says; call :meth:`feed` afterwards.

        :param start: its first :data:`HOST_START` bytes, as many of them as have come.
        """
        self._host = start

    def feed(self, data: bytes) -> list[bytes]:
        """Take what the client said.

        :returns: the messages that pass, one each.
        :raises RFBViolation: a message that is not known, or not allowed to be that long.
        :raises UpstreamViolation: the host's version is none whose handshake is known.
        """
        passed: list[bytes] = []
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        data = self._data + data
        while data:
            size, message = self._next(data)
            if not size:
                break
            if message:
                passed.append(message)
            if size > len(data):
                self._skip = size - len(data)
                data = b""
            else:
                data = data[size:]
        if self.listens and len(data) > _MAX_EARLY:
            raise RFBViolation("the client speaks before the server")
        self._data = data
        return passed

    def _next(self, data: bytes) -> tuple[int, bytes]:
        """Length of the next message (0: not known yet), and what passes of it."""
        if self._step != _DONE:
            return self._handshake(data)
        kind = data[0]
        if kind in _PASSES:
            size = _PASSES[kind]
            return (size, data[:size]) if len(data) >= size else (0, b"")
        if kind in _FIXED:
            return _FIXED[kind], b""
        if kind == _SET_ENCODINGS:
            return self._set_encodings(data)
        return _dropped_length(kind, data), b""

    def _handshake(self, data: bytes) -> tuple[int, bytes]:
        if self._step == _VERSION:
            if len(data) < 12 or len(self._host) < 12:
                return 0, b""
            spoken = _HOST_VERSIONS.get(self._host[:12])
            if spoken is None:
                raise UpstreamViolation("not a version of RFB whose handshake is known")
            version = _CLIENT_VERSIONS.get(data[:12])
            if version is None or version > spoken:
                raise RFBViolation("not version 3.3, 3.7 or 3.8 of RFB, or not one of the host's")
            self._step = _CHOSEN if version == 3 else _CHOICE
            return 12, data[:12]
        if self._step == _CHOSEN:
            if len(self._host) < HOST_START:
                return 0, b""
            _require_none(self._host[15:16] if self._host[12:15] == bytes(3) else b"")
            self._step = _INIT
        if self._step == _CHOICE:
            _require_none(data[:1])
            self._step = _INIT
            return 1, data[:1]
        self._step = _DONE
        # A viewer must not disconnect others: ClientInit asks for a shared session.
        return 1, b"\x01"

    def _set_encodings(self, data: bytes) -> tuple[int, bytes]:
        if len(data) < 4:
            return 0, b""
        (count,) = struct.unpack_from("!H", data, 2)
        if count > _MAX_ENCODINGS:
            raise RFBViolation(f"SetEncodings with {count} encodings")
        size = 4 + 4 * count
        if len(data) < size:
            return 0, b""
        wanted = struct.unpack_from(f"!{count}i", data, 4)
        kept = [encoding for encoding in wanted if encoding in _ENCODINGS]
        return size, struct.pack(f"!BxH{len(kept)}i", _SET_ENCODINGS, len(kept), *kept)


def _dropped_length(kind: int, data: bytes) -> int:
    """Length of a message of variable length that does not pass; 0 while it is not known."""
    if kind == _POINTER:
        # Bit 7 marks the longer form of the extended mouse buttons.
        return 0 if len(data) < 2 else 7 if data[1] & 0x80 else 6
    if kind == _CUT_TEXT:
        # A negative length is the extended clipboard's.
        return 0 if len(data) < 8 else 8 + abs(struct.unpack_from("!i", data, 4)[0])
    if kind == _VMWARE:
        if len(data) < 4:
            return 0
        size = int(struct.unpack_from("!H", data, 2)[0])
        if size < 4:
            raise RFBViolation(f"VMware message of {size} bytes")
        return size
    if kind == _FENCE:
        return 0 if len(data) < 9 else 9 + data[8]
    if kind == _SET_DESKTOP_SIZE:
        return 0 if len(data) < 8 else 8 + 16 * data[6]
    if kind == _QEMU:
        if len(data) < 2:
            return 0
        if data[1] == 0:
            return 12
        if data[1] == 1:
            return 0 if len(data) < 4 else 10 if data[3] == 2 else 4
    raise RFBViolation(f"message of type {kind} in a view-only session")


def _require_none(security_type: bytes) -> None:
    if security_type != _SECURITY_NONE:
        # What follows depends on the type, and could not be told from messages.
        raise RFBViolation("a security type other than None in a view-only session")
