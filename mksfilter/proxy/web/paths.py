"""URL paths: which are the page's, and what stands before them in front of us. No I/O.

A load balancer may put the proxy under a prefix (``https://console.example.com/cell1/mks/``), and
then either strips it or passes it on. The page refers to its files and its WebSocket relative to
itself, so that it works in both cases without knowing the prefix. What the proxy has to know it
reads from the path of ``webmks_proxy_base_url``.
"""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes, urlsplit

__all__ = ["PAGES", "UPGRADES", "PathPrefix"]

#: Where the console page is: ``/``, and where links for noVNC in an older console service point.
PAGES = ("/", "/vnc_auto.html", "/vnc_lite.html", "/vnc.html")
#: Where a WebSocket may be opened, and nowhere else.
UPGRADES = ("/", "/websockify")


class PathPrefix:
    """The part of a path that belongs to the load balancer.

    :param base_url: the page's URL as browsers see it; empty when the operator did not say.
    """

    def __init__(self, base_url: str = "") -> None:
        path = urlsplit(base_url).path
        directory, _, name = path.rpartition("/")
        # "/cell1/mks" is the page's own directory without its last slash, not a file in "/cell1".
        self._without_slash = f"/{name}" not in PAGES
        self._prefix = path if self._without_slash else directory
        # PEP 3333: PATH_INFO is decoded, byte for byte, as Latin-1.
        self._decoded = unquote_to_bytes(self._prefix).decode("latin-1")

    def without(self, path: str) -> str:
        """*path* as it is without the prefix; unchanged where a load balancer has stripped it.

        :param path: ``PATH_INFO``.
        """
        if self._decoded and f"{path}/".startswith(f"{self._decoded}/"):
            path = path[len(self._decoded) :]
        return path or "/"

    def directory(self, path: str, script_name: str = "") -> str:
        """What the page has to put before ``static/``.

        Nothing, as a rule. The page's own directory where it was asked for without that
        directory's last slash, or where its links lack the slash and a load balancer may have
        put it there.

        :param path: ``PATH_INFO``.
        :param script_name: ``SCRIPT_NAME``.
        """
        if not path and script_name:
            return quote(script_name, encoding="latin-1") + "/"
        if self._prefix and (self._without_slash or path == self._decoded):
            return self._prefix + "/"
        return ""
