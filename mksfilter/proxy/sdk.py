"""VMware's HTML Console SDK, a viewer in place of noVNC (``console_client = wmks``).

Its licence does not let others hand it out: a site downloads it and names the directory. All of
what is served of that directory is read at the start, by names that are known here; nothing is
looked up by what a client sends.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from mksfilter.exceptions import ConfigurationError

__all__ = ["Sdk", "configured", "read"]

_SDK: Final = "wmks.min.js"
_VERSION: Final = r"(-[0-9]+(\.[0-9]+)*)?"
_JQUERY: Final = re.compile(rf"jquery{_VERSION}(\.min)?\.js")
_JQUERY_UI: Final = re.compile(rf"jquery-ui{_VERSION}(\.custom)?(\.min)?\.js")
_STYLE: Final = "css/wmks-all.css"
#: What else the SDK's archive has beside it, for its style sheet and its keys for fingers.
_MORE: Final = (
    ("css", re.compile(r"[0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)*\.css")),
    ("img", re.compile(r"[0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)*\.png")),
)
#: Bytes of a file; the whole SDK has about 400 kB.
_LONGEST: Final = 8_000_000


@dataclasses.dataclass(frozen=True)
class Sdk:
    """What is served of the SDK.

    :ivar files: contents by name, ``css/wmks-all.css`` and the like.
    :ivar scripts: those that the page loads, in the order in which they need each other.
    :ivar styles: its style sheets.
    """

    files: Mapping[str, bytes] = dataclasses.field(repr=False)
    scripts: tuple[str, ...]
    styles: tuple[str, ...]


def configured(client: str, directory: str) -> Sdk | None:
    """What ``console_client`` and ``wmks_dir`` ask for; None: noVNC.

    :raises ConfigurationError: see :func:`read`; or there is no directory.
    """
    if client != "wmks":
        return None
    if not directory:
        raise ConfigurationError(
            "console_client = wmks needs wmks_dir: the directory with VMware's HTML Console SDK"
        )
    return read(directory)


def read(directory: str) -> Sdk:
    """The SDK in *directory*: ``wmks.min.js``, jQuery and jQuery UI, and what lies in ``css`` and
    ``img``.

    :raises ConfigurationError: one of the three is missing or there twice, or something cannot be
        read.
    """
    root = Path(directory)
    try:
        names = sorted(os.listdir(root))
        jquery = _one(root, names, _JQUERY, "jQuery (jquery.min.js)")
        jquery_ui = _one(root, names, _JQUERY_UI, "jQuery UI (jquery-ui.min.js)")
        if _SDK not in names:
            raise ConfigurationError(
                f"wmks_dir {root} lacks {_SDK}: put VMware's HTML Console SDK there"
            )
        scripts = (jquery, jquery_ui, _SDK)
        files = {name: _content(root, name) for name in (*scripts, *_more(root))}
    except OSError as exc:
        words = os.strerror(exc.errno) if exc.errno else str(exc)
        raise ConfigurationError(f"wmks_dir {exc.filename or root}: {words}") from exc
    return Sdk(files, scripts, (_STYLE,) if _STYLE in files else ())


def _one(root: Path, names: Iterable[str], pattern: re.Pattern[str], what: str) -> str:
    found = [name for name in names if pattern.fullmatch(name)]
    if not found:
        raise ConfigurationError(f"wmks_dir {root} lacks {what}, which the SDK needs")
    if len(found) > 1:
        raise ConfigurationError(f"wmks_dir {root} has {what} twice: {' and '.join(found)}")
    return found[0]


def _more(root: Path) -> list[str]:
    return [
        f"{folder}/{name}"
        for folder, pattern in _MORE
        if (root / folder).is_dir()
        for name in sorted(os.listdir(root / folder))
        if pattern.fullmatch(name)
    ]


def _content(root: Path, name: str) -> bytes:
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise ConfigurationError(f"wmks_dir {root}: {name} leads out of it")
    with path.open("rb") as file:
        content = file.read(_LONGEST + 1)
    if len(content) > _LONGEST:
        raise ConfigurationError(f"wmks_dir {root}: {name} has more than {_LONGEST} bytes")
    return content
