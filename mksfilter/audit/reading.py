"""Audit events read back: from files of this node and others, rotated ones, and syslog's."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

from mksfilter.audit.events import AuditEvent, from_mapping
from mksfilter.exceptions import OperationError

__all__ = ["parse", "read"]


def read(paths: Sequence[str]) -> tuple[list[AuditEvent], int]:
    """The events of all files, and how many lines are none.

    :param paths: ``-``: standard input; ``.gz`` is unpacked.
    :raises OperationError: a file cannot be read.
    """
    events: list[AuditEvent] = []
    others = 0
    for path in paths:
        try:
            with _open(path) as file:
                for found in parse(file):
                    if found is None:
                        others += 1
                    else:
                        events.append(found)
        except (OSError, EOFError, zlib.error) as exc:
            words = getattr(exc, "strerror", None) or str(exc)
            raise OperationError(f"audit file {path}: {words}") from exc
    return events, others


def parse(lines: Iterable[str]) -> Iterator[AuditEvent | None]:
    """The event of each line, None for what is none; empty lines are passed over.

    What a syslog service has written before the JSON is passed over too.
    """
    for line in lines:
        text = line.strip()
        if not text:
            continue
        # In what stands before it there may be a brace too.
        start = text.find('{"') if '{"' in text else text.find("{")
        try:
            document = json.loads(text[start:]) if start >= 0 else None
            yield from_mapping(document) if isinstance(document, dict) else None
        except (ValueError, RecursionError):
            yield None


def _open(path: str) -> IO[str]:
    if path == "-":
        return sys.stdin
    if path.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return open(path, encoding="utf-8", errors="replace")
