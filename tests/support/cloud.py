"""A Keystone and a Nova that answer as told, for what is asked about Nova's own tokens."""

from __future__ import annotations

import http.server
import json
import threading

__all__ = ["Cloud"]


class Cloud(http.server.ThreadingHTTPServer):
    """Keystone and Nova on one port; a context manager.

    :ivar status: of Nova's answers, and ``body``: what they say.
    :ivar servers: Nova's instances by UUID, as it shows them; each answer has the status *status*.
    :ivar login_status: of Keystone's.
    :ivar drip: while it is set, answers come a byte at a time.
    :ivar asked: path and microversion of every question to Nova.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.status = 200
        self.body = "{}"
        self.servers = {}
        self.login_status = 201
        self.drip = threading.Event()
        self.released = threading.Event()
        self.asked = []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def __exit__(self, *error):
        self.released.set()
        self.shutdown()
        super().__exit__(*error)

    def configuration(self):
        """``[nova]`` of the proxy's configuration file."""
        return "\n".join(
            [
                "[nova]",
                "auth_type = v3password",
                f"auth_url = {self.url}/v3",
                "username = nova",
                "password = nova-pw",
                "user_domain_name = D",
                "project_domain_name = D",
                "project_name = service",
                "valid_interfaces = internal",
                "timeout = 5",
                "",
            ]
        )


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        endpoint = {
            "id": "1",
            "interface": "internal",
            "region": "R",
            "region_id": "R",
            "url": f"{self.server.url}/v2.1",
        }
        token = {
            "methods": ["password"],
            "user": {"id": "u", "name": "nova", "domain": {"id": "d", "name": "D"}},
            "issued_at": "2026-01-01T00:00:00.000000Z",
            "expires_at": "2126-01-01T00:00:00.000000Z",
            "project": {"id": "p", "name": "service", "domain": {"id": "d", "name": "D"}},
            "roles": [{"id": "r", "name": "admin"}],
            "catalog": [{"id": "c", "type": "compute", "name": "nova", "endpoints": [endpoint]}],
        }
        self._answer(self.server.login_status, json.dumps({"token": token}))

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("OpenStack-API-Version")))
        if self.path.startswith("/v2.1/os-console-auth-tokens/"):
            self._answer(self.server.status, self.server.body)
        elif self.path.removeprefix("/v2.1/servers/") in self.server.servers:
            shown = self.server.servers[self.path.removeprefix("/v2.1/servers/")]
            self._answer(self.server.status, json.dumps({"server": shown}))
        else:
            self._answer(404, "{}")

    def _answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Subject-Token", "keystone-token")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.drip.is_set():
            for byte in body:
                self.wfile.write(byte.encode())
                self.wfile.flush()
                if self.server.released.wait(0.05):
                    break
        self.wfile.write(body.encode())

    def log_message(self, *args):
        pass
