"""What a token costs to mint, to verify and to refuse, beside Fernet, keystone's kind of token."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from benchmarks.clock import microseconds
from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.token import TokenCodec
from mksfilter.exceptions import TokenError
from mksfilter.request import ConsoleRequest

__all__ = ["run"]

#: Microseconds, for mint and verify each.
LIMIT = 40.0


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Rows ``measure``, ``subject``, ``value``, ``unit`` and, where one is promised, ``limit``."""
    with tempfile.TemporaryDirectory() as directory:
        repository = KeyRepository(str(Path(directory) / "keys"))
        repository.setup()
        codec = TokenCodec(repository, "mksfilter")
        claims = {
            "instance_id": "5f1c7e20-0000-4000-8000-000000000001",
            "project_id": "d0" * 16,
            "user_id": "0e" * 16,
            "request_id": "req-5f1c7e20-0000-4000-8000-000000000001",
        }
        request = ConsoleRequest(**claims, mode="full")
        token = codec.issue(request, ttl=600).token
        forged = token[:-1] + ("A" if token[-1] != "A" else "B")
        fernet = Fernet(Fernet.generate_key())
        sealed = fernet.encrypt(json.dumps(claims).encode())

        def refuse() -> None:
            try:
                codec.verify(forged)
            except TokenError:
                return
            raise AssertionError("a forged token was accepted")

        took = microseconds(
            {
                "mint": lambda: codec.issue(request, ttl=600),
                "verify": lambda: codec.verify(token),
                "refuse": refuse,
                "fernet mint": lambda: fernet.encrypt(json.dumps(claims).encode()),
                "fernet verify": lambda: json.loads(fernet.decrypt(sealed)),
            },
            rounds=50 if quick else 300,
            repeats=100,
        )
    return [
        _row("mint a token", "mksfilter", took["mint"], LIMIT),
        _row("verify a token", "mksfilter", took["verify"], LIMIT),
        _row("refuse a forged token", "mksfilter", took["refuse"]),
        _row("mint a token", "Fernet", took["fernet mint"]),
        _row("verify a token", "Fernet", took["fernet verify"]),
        {
            "measure": "length of a token",
            "subject": "mksfilter",
            "value": len(token),
            "unit": "characters",
        },
    ]


def _row(measure: str, subject: str, value: float, limit: float | None = None) -> dict[str, Any]:
    row = {"measure": measure, "subject": subject, "value": round(value, 1), "unit": "µs"}
    return row if limit is None else {**row, "limit": limit}
