"""The control channel ``mks.v1``: what the server tells a page beside the console. No I/O.

JSON text frames between RFB's binary ones; a client that did not offer ``mks.v1`` never sees one.
The page says one thing in return, ``beat``, which is answered by the like: browsers hide pings
(RFC 6455 section 5.5.2) from scripts, and a page has to know whether the network still carries.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from typing import Final

from websockets.frames import Close, Frame, Opcode

from mksfilter.exceptions import ConsoleError, MachineAsks

__all__ = ["answer", "end", "hello", "notice", "question", "refusal_frames", "resume"]

_BEAT: Final = re.compile(rb'\{"type":"beat","id":([0-9]{1,9})\}')

#: Facts of an error that a page is told, and the largest number among them.
_NUMBERS: Final = ("limit", "seconds")
_NAMES: Final = ("machine", "node")
_MOST: Final = 1_000_000_000
#: Characters of a machine's name that a page is told; vCenter allows 80.
_MAX_NAME: Final = 255


def hello(
    *,
    mode: str,
    session: str,
    resume: str | None,
    expires: int | None,
    now: float,
    name: str = "",
    request: str = "",
    node: str = "",
) -> str:
    """First message of a session.

    :param session: its id, which opens nothing.
    :param resume: the token to reconnect with; None for a page without a key of its own.
    :param expires: when it ends whatever happens, seconds since the epoch; None: never.
    :param now: seconds since the epoch by this node's clock.
    :param name: the machine's, as its vCenter has it; empty: not known.
    :param request: the id of the API request that asked for the console, for an operator; ``node``:
        the name of this node. Empty: not told.
    """
    return _message(
        type="hello",
        mode=mode,
        session=session,
        resume=resume,
        expires=expires,
        now=round(now, 3),
        name=name[:_MAX_NAME] or None,
        beat=True,
        **{key: told for key, told in (("request", request), ("node", node)) if told},
    )


def answer(message: bytes) -> str | None:
    """The answer to what a page says: to ``{"type":"beat","id":NUMBER}`` the same.

    :param message: text of at most 125 bytes.
    :returns: None: it is no message of this channel.
    """
    match = _BEAT.fullmatch(message)
    return None if match is None else _message(type="beat", id=int(match[1]))


def resume(token: str) -> str:
    """A fresh token to reconnect with; it replaces the one before."""
    return _message(type="resume", token=token)


def notice(kind: str, seconds: int) -> str:
    """``draining`` or ``lifetime``: the session ends in *seconds*."""
    return _message(type="notice", notice=kind, **{"in": seconds})


def question(text: str) -> str:
    """The machine stands still until *text* is answered in vCenter; empty: it was answered."""
    return _message(type="notice", notice="question", text=text)


def end(reason: ConsoleError, **more: object) -> str:
    """Why the session ends, in words for its user; the close frame follows.

    What the page does next is said too (see ``ConsoleError.retry``): it may be of a release that
    does not know the reason.
    """
    facts = _facts(reason)
    if facts:
        more["facts"] = facts
    return _message(
        type="end", reason=reason.reason, message=reason.public, retry=reason.retry, **more
    )


def refusal_frames(
    reason: ConsoleError,
    *,
    after: float | None = None,
    resume: str | None = None,
    session: str = "",
    request: str = "",
    node: str = "",
) -> bytes:
    """The frames that tell *reason* to a client whose session never began, after the question that
    its machine asks.

    :param after: seconds after which a page that waits may ask again.
    :param resume: the token to do so with, in place of a link; None: the one that it has.
    :param session: as in :func:`hello`, for an operator; ``request`` and ``node`` too.
    """
    more: dict[str, object] = {"after": after, "resume": resume}
    more = {name: value for name, value in more.items() if value is not None}
    where = {"session": session, "request": request, "node": node}
    message = end(reason, **more, **{name: value for name, value in where.items() if value})
    texts = [message]
    if isinstance(reason, MachineAsks) and reason.question:
        texts.insert(0, question(reason.question))
    frames = [Frame(Opcode.TEXT, text.encode("utf-8")) for text in texts]
    frames.append(Frame(Opcode.CLOSE, Close(reason.close_code, reason.reason).serialize()))
    return b"".join(frame.serialize(mask=False) for frame in frames)


def _facts(reason: ConsoleError) -> dict[str, str | int]:
    """The facts that a page is told: whole numbers up to 1e9, and names as one short line."""
    facts: dict[str, str | int] = {}
    for name in _NUMBERS:
        value = reason.facts.get(name)
        if isinstance(value, (int, float)) and 0 <= value <= _MOST:
            facts[name] = math.ceil(value)
    for name in _NAMES:
        text = "".join(filter(_is_shown, str(reason.facts.get(name, ""))[: 8 * _MAX_NAME])).strip()
        if text:
            facts[name] = text[:_MAX_NAME]
    return facts


def _is_shown(character: str) -> bool:
    """It is no control, and does not turn the direction of what follows."""
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _message(**fields: object) -> str:
    return json.dumps(fields, separators=(",", ":"))
