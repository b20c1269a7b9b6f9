"""Opens the console of a URL, says ``open NAME``, and at its end ``closed CODE``."""

from __future__ import annotations

import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect


def main(url: str) -> None:
    with connect(url, subprotocols=["binary"], max_size=None, ping_interval=None) as socket:  # type: ignore[list-item]
        socket.recv()
        socket.send(b"RFB 003.008\n")
        socket.recv()
        socket.send(b"\x01")
        socket.recv()
        socket.send(b"\x01")
        server = socket.recv()
        assert isinstance(server, bytes)
        print("open", server[24:].decode(), flush=True)
        try:
            while True:
                socket.recv()
        except ConnectionClosed as exc:
            print("closed", exc.rcvd.code if exc.rcvd else 1006, flush=True)


main(sys.argv[1])
