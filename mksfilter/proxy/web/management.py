"""What is served on the listener of its own: probes and metrics. Plain HTTP, no token.

=========  ==================================================================================
path       answer
=========  ==================================================================================
/livez     200 from a worker whose loop turns, so from a node of which one does; no answer
           otherwise. Restart the node when it fails for long. A node that drains is alive.
/readyz    200 when the node takes sessions, 503 when it does not; each check by its name.
           Send no new sessions while it fails; those that are open go on.
/metrics   the metrics of all workers, in Prometheus' text format
/drain     who is still here, and how a drain goes: `mksfilter drain --status`
=========  ==================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from mksfilter.proxy.web.page import Answer, framed, plain
from mksfilter.proxy.web.report import NodeReport

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["Management"]


class Management:
    """A WSGI application.

    :param may_scrape: whether who sends this request may read the metrics.
    :param drain: what /drain shows.
    """

    def __init__(
        self,
        report: NodeReport,
        may_scrape: Callable[[WSGIEnvironment], bool],
        drain: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self._report = report
        self._drain = drain
        self._may_scrape = may_scrape

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request (PEP 3333)."""
        answer = self._answer(environ)
        start_response(answer.status_line, framed(answer))
        return [answer.body] if environ["REQUEST_METHOD"] == "GET" and answer.body else []

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return Answer(405, [("Allow", "GET, HEAD")])
        path = environ.get("PATH_INFO", "")
        if path == "/livez":
            return _document(200, {"status": "live", "workers": len(self._report.workers())})
        if path == "/readyz":
            ready, document = self._report.readiness()
            return _document(200 if ready else 503, document)
        if path == "/metrics" and self._may_scrape(environ):
            content_type, body = self._report.exposition()
            return Answer(200, [("Content-Type", content_type)], body)
        if path == "/drain" and self._may_scrape(environ):
            return _document(200, self._drain())
        return plain(404, "Not found\n")


def _document(status: int, content: dict[str, Any]) -> Answer:
    headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
    return Answer(status, headers, (json.dumps(content, indent=1) + "\n").encode())
