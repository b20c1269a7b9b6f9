"""Consoles that are closed when a test ends, and a certificate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mksfilter.backends.resolver import Consoles
from mksfilter.config import VCenterSettings
from tests.support.certificates import SelfSigned


@pytest.fixture
def consoles_of() -> Iterator[Callable[..., Consoles]]:
    """``consoles_of(settings, ..., take_over="drop")``."""
    made: list[Consoles] = []

    def make(*vcenters: VCenterSettings, **options: Any) -> Consoles:
        made.append(Consoles(vcenters, **options))
        return made[-1]

    yield make
    for consoles in made:
        consoles.close()


@pytest.fixture
def certificate(tmp_path: Path) -> SelfSigned:
    return SelfSigned(tmp_path)
