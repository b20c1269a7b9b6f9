"""The revocation list: only a RevocationListError, no unsigned list, no session overlooked."""

from __future__ import annotations

import base64
from itertools import product

from mksfilter.auth.revocation import Revocation, RevocationList
from mksfilter.auth.token import Claims
from mksfilter.exceptions import RevocationListError
from tests.auth.keyring import Keyring, key
from tests.fuzz.token import edited

__all__ = ["TestOneInput"]

_KEYS = Keyring(key(), key(2))
_INSTANCE = "5f1c7e20-0000-4000-8000-000000000001"
_NAMES = ("A" * 22, _INSTANCE, "u", "p", "")
_SIGNED = RevocationList(
    [
        Revocation("session", "A" * 22, 1000, 2000),
        Revocation("user", "u", 1000),
        Revocation("issued-before", "", 1000),
    ]
).sign(_KEYS.primary())
#: Sessions that began before, at and after a second, and have one thing or another to do with it.
_SESSIONS = [
    Claims(
        jti=name,
        aud="fuzz",
        iid=instance,
        iat=1000,
        exp=3000,
        use="resume",
        mode="full",
        uid=user,
        pid=project,
        auth_time=began,
    )
    for name, instance, user, project, began in product(
        ("A" * 22, "B" * 22),
        (_INSTANCE, _INSTANCE[:-1] + "2"),
        ("u", ""),
        ("p", ""),
        (0, 999, 1000, 1001),
    )
]


def TestOneInput(data: bytes) -> None:
    """The first byte says what the rest is."""
    kind, rest = data[:1] or b"\0", data[1:]
    if kind < b"\x40":
        _refused(rest.decode("latin-1"))
    elif kind < b"\x80":
        _refused(edited(_SIGNED, rest))
    elif kind < b"\xc0":
        _signed(rest)
    else:
        _listed(rest)


def _refused(text: str) -> None:
    try:
        RevocationList.verify(text, _KEYS)
    except RevocationListError:
        return
    assert text.removesuffix("\n") == _SIGNED, "a list that nobody signed in this spelling"


def _signed(payload: bytes) -> None:
    """A payload that somebody with the key signed, which is no reason to believe it well-formed."""
    signer = _KEYS.primary()
    head = f"mksr1.{signer.kid}." + base64.urlsafe_b64encode(payload).rstrip(b"=").decode()
    try:
        found = RevocationList.verify(f"{head}.{signer.list_mac(head.encode()).decode()}", _KEYS)
    except RevocationListError:
        return
    _enforced(found.entries)


def _listed(choices: bytes) -> None:
    """Entries of the right form, three bytes each."""
    kinds = ("session", "instance", "user", "project")
    entries = []
    for kind, value, when in zip(choices[::3], choices[1::3], choices[2::3], strict=False):
        at, until = 998 + (when & 3), None if when & 4 else 990 + (when >> 3)
        if kind % 5 == 4:
            entries.append(Revocation("issued-before", "", at, until))
        else:
            entries.append(Revocation(kinds[kind % 5], _NAMES[value % 5], at, until))
    _enforced(entries)


def _enforced(entries: list[Revocation]) -> None:
    """Each session that an entry concerns is found, and no other; written and read they are one."""
    listed = RevocationList(entries)
    again = RevocationList.verify(listed.sign(_KEYS.primary()), _KEYS)
    assert again.entries == listed.entries
    for claims in _SESSIONS:
        concerned = any(entry.concerns(claims) for entry in entries)
        assert (listed.match(claims) is not None) == concerned, (entries, claims)
    for entry in entries:
        kept = listed.with_entry(entry).without_expired(0).entries
        assert entry.until is not None or any(
            (entry.kind, entry.value) == (other.kind, other.value) for other in kept
        )
