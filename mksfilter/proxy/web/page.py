"""The console page, the files it needs, and pages that say in words why there is none.

Everything served is known before the first request: no path is ever joined from what a client
sent, and no answer is a redirect (CVE-2021-3654).

Each file has two URLs: ``/static/NAME``, which browsers ask for anew each time, and
``/static/VERSION/NAME``, which the page uses and they keep for good: the version is a digest of all
the files. Under a version that is another release's (a node is upgraded while pages load) there is
this release's file, and nobody keeps it.

``/static/v1/`` is the element ``<mks-console>``, which other sites load: those that may open
consoles. ``/static/wmks/`` is VMware's HTML Console SDK, where a site has it
(:mod:`mksfilter.proxy.sdk`).
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import html
import json
import logging
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from string import Template

from mksfilter.exceptions import AccessDenied, ConsoleError
from mksfilter.log import event
from mksfilter.proxy.ancestors import parse_ancestor
from mksfilter.proxy.sdk import Sdk
from mksfilter.proxy.web import languages

__all__ = ["Answer", "Pages", "framed", "plain"]

LOG = logging.getLogger(__name__)

_HERE = Path(__file__).parent
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ts": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
_FILE = re.compile(r'(\b(?:href|src)=")static/')
_VERSIONED = re.compile(r"/static/([0-9a-f]{16})(/.+)")
_Headers = list[tuple[str, str]]
_SCRIPT = "/static/novnc/console.js"
_MESSAGES = "/static/novnc/messages.json"
_WMKS = "static/wmks/"
_PRELOAD = '<link rel="modulepreload" href="static/novnc/console.js">'
_ASK = "no-cache"
_ELEMENT = "/static/v1/"
_KEEP = "public, max-age=31536000, immutable"
_NOT_BUILT = (
    "This server was installed without its console page. Its operator can install a wheel, which "
    "holds the page, or run tools/build-page, which needs npm, and restart the server."
)


@dataclasses.dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: _Headers
    body: bytes = dataclasses.field(default=b"", repr=False)

    @property
    def status_line(self) -> str:
        """Code and phrase, as WSGI wants them."""
        return f"{self.status} {HTTPStatus(self.status).phrase}"


def plain(status: int, text: str = "") -> Answer:
    """A line of text."""
    return Answer(
        status, [("Content-Type", "text/plain"), ("Cache-Control", "no-store")], text.encode()
    )


def framed(answer: Answer) -> _Headers:
    """Its headers, and how long it is."""
    if answer.status in (HTTPStatus.NOT_MODIFIED, HTTPStatus.NO_CONTENT):
        return answer.headers
    return [*answer.headers, ("Content-Length", str(len(answer.body)))]


@dataclasses.dataclass(frozen=True)
class _File:
    content: bytes
    content_type: str
    #: By gzip, from the build; empty where that made none of this very content.
    packed: bytes = b""

    @functools.cached_property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'

    @functools.cached_property
    def compressed(self) -> bytes | None:
        """None where compression gains nothing."""
        packed = self.packed or gzip.compress(self.content, 9, mtime=0)
        return packed if len(packed) < 0.9 * len(self.content) else None


class Pages:
    """Everything the proxy shows to people.

    :param frame_ancestors: origins that may show the page in a frame; ``self`` stands for ours.
    :param hsts: seconds for which browsers shall use HTTPS only (RFC 6797); 0: nothing is said.
    :param may_open: whether the site that a request's ``Origin`` names may open consoles.
    :param sdk: shows consoles in place of noVNC.
    :param root: directory with ``templates`` and ``static``.
    :raises ConfigurationError: something in *frame_ancestors* that is no origin.
    """

    def __init__(
        self,
        frame_ancestors: Iterable[str] = (),
        *,
        hsts: int = 0,
        may_open: Callable[[Mapping[str, str]], bool] = lambda _: False,
        sdk: Sdk | None = None,
        root: Path = _HERE,
    ) -> None:
        self._hsts = hsts
        self._may_open = may_open
        ancestors = [parse_ancestor(text) for text in frame_ancestors]
        self._policy = "; ".join(
            (
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self'",
                "img-src 'self' data: blob:",
                "connect-src 'self'",
                "base-uri 'none'",
                "form-action 'none'",
                f"frame-ancestors {' '.join(ancestors) or chr(39) + 'none' + chr(39)}",
            )
        )
        # jQuery and the SDK write style attributes, and no page can do without what it is made of.
        self._console_policy = self._policy + ("; style-src-attr 'unsafe-inline'" if sdk else "")
        self._console = (root / "templates" / "console.html").read_text("utf-8")
        if sdk:
            self._console = _with_sdk(self._console, sdk)
        # By directory, of which a deployment has one: compressed once.
        self._page_in = functools.lru_cache(maxsize=8)(self._page)
        self._message = Template((root / "templates" / "message.html").read_text("utf-8"))
        self._files = {**dict(_static_files(root / "static")), **dict(_sdk_files(sdk))}
        self._version = _version(self._files)
        self._words = _words(self._files)
        if _SCRIPT not in self._files:
            # Installed from a source tree without npm; consoles work for other clients.
            LOG.error(event("page-missing", file=_SCRIPT, detail=_NOT_BUILT))

    @property
    def built(self) -> bool:
        """The console page is there."""
        return _SCRIPT in self._files

    def console(self, *, tls: bool, directory: str = "", encodings: str = "") -> Answer:
        """The page itself. It reads token and title from its address; nothing of a request is
        rendered in, and so it may be compressed over TLS (CVE-2013-3587).

        :param directory: where its files are, with a last slash; empty: beside the page.
        :param encodings: the request's ``Accept-Encoding``.
        """
        if not self.built:
            return self.message(503, "The console page is not built", _NOT_BUILT, tls=tls)
        headers = [*self._page_headers(tls, self._console_policy), ("Vary", "Accept-Encoding")]
        return _encoded(headers, self._page_in(directory), encodings)

    def message(self, status: int, heading: str, message: str, *, tls: bool) -> Answer:
        """A page that says *message*."""
        return self._say(status, {"heading": heading, "message": message}, languages.ENGLISH, tls)

    def refusal(
        self, exc: ConsoleError, *, tls: bool, wanted: str = "", accept: str = ""
    ) -> Answer:
        """The page for a link that *exc* refuses, in its reader's language as far as the console
        page's build has the words, else in English.

        :param wanted: the link's ``language``.
        :param accept: the request's ``Accept-Language``.
        """
        language = languages.choose(self._words, wanted=wanted, accept=accept)
        words = self._words.get(language, {})
        said = {
            "heading": words.get("heading", "The console could not be opened"),
            # All reasons why a link is not good enough look alike outside.
            "message": words.get("denied" if exc.public == AccessDenied.public else exc.reason)
            or exc.public,
            "direction": words.get("direction", "ltr"),
        }
        return self._say(exc.status, said, language if words else languages.ENGLISH, tls)

    def _say(self, status: int, said: Mapping[str, str], language: str, tls: bool) -> Answer:
        fields = {"direction": "ltr", "language": language, **said}
        body = self._message.substitute({key: html.escape(text) for key, text in fields.items()})
        headers = [*self._page_headers(tls, self._policy), ("Content-Language", language)]
        return Answer(status, headers, body.encode("utf-8"))

    def _page(self, directory: str) -> _File:
        files = f"{html.escape(directory)}static/{self._version}/"
        page = _FILE.sub(lambda link: link[1] + files, self._console)
        return _File(page.encode("utf-8"), "text/html; charset=utf-8")

    def static(self, path: str, environ: Mapping[str, str]) -> Answer | None:
        """The file at URL *path*, None when there is none."""
        versioned = _VERSIONED.fullmatch(path)
        if versioned:
            path = f"/static{versioned[2]}"
        file = self._files.get(path)
        if file is None:
            return None
        kept = versioned is not None and versioned[1] == self._version
        headers = [
            ("Content-Type", file.content_type),
            ("ETag", file.etag),
            ("Cache-Control", _KEEP if kept else _ASK),
            ("X-Content-Type-Options", "nosniff"),
            # A module is asked for with CORS, also by other sites.
            ("Cross-Origin-Resource-Policy", "same-origin"),
            *self._shared(path, environ),
        ]
        known = [tag.strip() for tag in environ.get("HTTP_IF_NONE_MATCH", "").split(",")]
        if file.etag in [tag.removeprefix("W/") for tag in known]:
            return Answer(304, headers)
        return _encoded(headers, file, environ.get("HTTP_ACCEPT_ENCODING", ""))

    def _shared(self, path: str, environ: Mapping[str, str]) -> _Headers:
        if not path.startswith(_ELEMENT):
            return [("Vary", "Accept-Encoding")]
        headers = [("Vary", "Accept-Encoding, Origin")]
        if "HTTP_ORIGIN" in environ and self._may_open(environ):
            headers.append(("Access-Control-Allow-Origin", environ["HTTP_ORIGIN"]))
        return headers

    def _page_headers(self, tls: bool, policy: str) -> _Headers:
        headers = [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Security-Policy", policy),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
        ]
        if tls and self._hsts:
            headers.append(("Strict-Transport-Security", f"max-age={self._hsts}"))
        return headers


def _static_files(root: Path) -> Iterable[tuple[str, _File]]:
    for path in sorted(root.rglob("*")):
        content_type = _TYPES.get(path.suffix)
        if path.is_file() and content_type and not path.name.startswith("."):
            url = "/static/" + path.relative_to(root).as_posix()
            content = path.read_bytes()
            yield url, _File(content, content_type, _packed(path, content))


def _words(files: Mapping[str, _File]) -> Mapping[str, Mapping[str, str]]:
    """What pages of our own say, by language; the build takes it from the console page's words."""
    file = files.get(_MESSAGES)
    words: dict[str, dict[str, str]] = json.loads(file.content) if file else {}
    return words


def _sdk_files(sdk: Sdk | None) -> Iterable[tuple[str, _File]]:
    for name, content in sdk.files.items() if sdk else ():
        yield f"/{_WMKS}{name}", _File(content, _TYPES[Path(name).suffix])


def _with_sdk(page: str, sdk: Sdk) -> str:
    """The console page around *sdk*: deferred scripts are run in their order, before ours asks for
    them."""
    links = [
        _PRELOAD.replace("console.js", "wmks.js"),
        *(f'<link rel="stylesheet" href="{_WMKS}{name}">' for name in sdk.styles),
        *(f'<script defer src="{_WMKS}{name}"></script>' for name in sdk.scripts),
    ]
    page = page.replace('<html lang="en">', '<html lang="en" data-client="wmks">')
    return page.replace(_PRELOAD, "\n".join(links))


def _packed(path: Path, content: bytes) -> bytes:
    """What the build has compressed, unless it was built from something else."""
    try:
        packed = path.with_name(f"{path.name}.gz").read_bytes()
        return packed if gzip.decompress(packed) == content else b""
    except (OSError, EOFError, zlib.error):
        return b""


def _version(files: Mapping[str, _File]) -> str:
    digest = hashlib.sha256()
    for url, file in sorted(files.items()):
        digest.update(f"{url} {file.etag}\n".encode())
    return digest.hexdigest()[:16]


def _encoded(headers: _Headers, file: _File, encodings: str) -> Answer:
    if _takes_gzip(encodings) and file.compressed:
        return Answer(200, [*headers, ("Content-Encoding", "gzip")], file.compressed)
    return Answer(200, headers, file.content)


def _takes_gzip(header: str) -> bool:
    for coding in header.split(","):
        name, _, weight = coding.strip().lower().partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
