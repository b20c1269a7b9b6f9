"""Keys that can be guessed: text, patterns, published examples, and digests of known words.

Whoever guesses a key can sign a token for any instance, so a key has to be random, and a file that
``mksfilter keys`` did not make is looked at more closely than its length. What is looked for here
does not come from a random generator: the likeliest of it, a run of one kind of letters, comes once
in 10**15 keys.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import re
from collections.abc import Iterator
from typing import Literal

__all__ = ["weakness"]

# A random key of 32 bytes has fewer different ones once in 10**20.
_MIN_DISTINCT_BYTES = 12

_PUBLISHED = frozenset(
    {
        # The example of the Fernet specification.
        base64.urlsafe_b64decode("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="),
        # RFC 7515, appendix A.1.1, and so the example of many JWT libraries.
        base64.urlsafe_b64decode(
            "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow=="
        ),
    }
)

_WORDS = (
    "",
    "0",
    "123456",
    "admin",
    "change-me",
    "change_me",
    "changeit",
    "changeme",
    "console",
    "default",
    "demo",
    "devstack",
    "example",
    "foo",
    "foobar",
    "hello",
    "key",
    "keystone",
    "mks",
    "mksfilter",
    "mksproxy",
    "nova",
    "openstack",
    "passw0rd",
    "password",
    "qwerty",
    "root",
    "secret",
    "secretkey",
    "test",
    "testkey",
    "token",
    "vcenter",
    "vmware",
    "webmks",
)
# Those that are long enough, as bytes or in hexadecimal.
_DIGESTS = (
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "sha3_256",
    "sha3_512",
    "blake2s",
    "blake2b",
)

_ORDERS: tuple[Literal["big", "little"], ...] = ("big", "little")

# Base64 of random bytes mixes all of these.
_ONE_KIND = re.compile(rb"[a-z_=-]+|[A-Z_=-]+|[0-9_=-]+")
_TEXT = re.compile(rb"[\t\n\r -~]+")


def weakness(secret: bytes, text: bytes) -> str:
    """What makes a key guessable; empty: nothing that is known.

    :param secret: the key.
    :param text: the file that it was decoded from.
    """
    if secret in _PUBLISHED:
        return "a published example"
    if len(set(secret)) < _MIN_DISTINCT_BYTES or _repeats(secret):
        return "a pattern that repeats"
    if _counts(secret):
        return "bytes that count"
    if secret in _known_digests() or text.lower() in _known_hexadecimals():
        return "the digest of a known word"
    if _TEXT.fullmatch(secret) or _ONE_KIND.fullmatch(text):
        return "text"
    return ""


def _repeats(secret: bytes) -> bool:
    """Whether the first half or less of it, over and over, is the whole."""
    # A string that turns into itself when rotated by less than its length is made of repetitions;
    # comparing it with itself, moved on, finds those that end in the middle of one too.
    return any(secret[period:] == secret[:-period] for period in range(1, len(secret) // 2 + 1))


def _counts(secret: bytes) -> bool:
    """Whether it is made of numbers, of any usual width, that are equally far apart."""
    return any(_equally_apart(secret, width, order) for width in (1, 2, 4, 8) for order in _ORDERS)


def _equally_apart(secret: bytes, width: int, order: Literal["big", "little"]) -> bool:
    whole = len(secret) - len(secret) % width
    numbers = [int.from_bytes(secret[at : at + width], order) for at in range(0, whole, width)]
    return len({(b - a) % 256**width for a, b in itertools.pairwise(numbers)}) == 1


@functools.cache
def _known_digests() -> frozenset[bytes]:
    return frozenset(_digests())


@functools.cache
def _known_hexadecimals() -> frozenset[bytes]:
    return frozenset(digest.hex().encode() for digest in _digests())


def _digests() -> Iterator[bytes]:
    for word in _WORDS:
        for ending in ("", "\n"):
            for spelled in (word, word.capitalize(), word.upper()):
                for name in _DIGESTS:
                    yield hashlib.new(
                        name, (spelled + ending).encode(), usedforsecurity=False
                    ).digest()
