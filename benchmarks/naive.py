"""The relay one would write first: gevent-websocket, one message at a time, two greenlets each.

``python -m benchmarks.naive PORT tls|plain HOST_PORT``
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import ssl  # noqa: E402
import sys  # noqa: E402

import gevent  # noqa: E402
from gevent.pywsgi import WSGIServer  # noqa: E402
from geventwebsocket.exceptions import WebSocketError  # noqa: E402
from geventwebsocket.handler import WebSocketHandler  # noqa: E402
from websockets.exceptions import ConnectionClosed  # noqa: E402
from websockets.sync.client import connect  # noqa: E402


def main() -> None:
    port, scheme, host_port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    context = None
    if scheme == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

    def application(environ, start_response):
        browser = environ["wsgi.websocket"]
        url = f"{'wss' if context else 'ws'}://127.0.0.1:{host_port}{environ['PATH_INFO']}"
        with connect(
            url,
            ssl=context,
            subprotocols=["binary"],
            compression=None,
            max_size=None,
            ping_interval=None,
            proxy=None,
        ) as host:

            def up() -> None:
                try:
                    while (message := browser.receive()) is not None:
                        host.send(message)
                except (WebSocketError, ConnectionClosed):
                    pass
                host.close()

            pump = gevent.spawn(up)
            try:
                for message in host:
                    browser.send(message, binary=True)
            except (WebSocketError, ConnectionClosed):
                pass
            pump.kill()
        browser.close()
        return []

    class Protocol:
        @staticmethod
        def app_protocol(path):
            return "binary"

    application.app_protocol = Protocol.app_protocol
    WSGIServer(
        ("127.0.0.1", port), application, handler_class=WebSocketHandler, log=None
    ).serve_forever()


if __name__ == "__main__":
    main()
