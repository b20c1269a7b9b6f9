"""The tree of errors is whole, and every place that names its reasons agrees with it."""

from __future__ import annotations

import ast
import builtins
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mksfilter import exceptions
from mksfilter.exceptions import ConnectionDropped, ConsoleError, MksFilterError, SessionEnded

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mksfilter"
# | `slug` | status | close | page | what its user reads | what to look for |
ROW = re.compile(
    r"^\| `([a-z-]+)` \| (.+?) \| (.+?) \| ([a-z]+) \| (.+?) \| (.+?) \|$", re.MULTILINE
)

# What vSphere, as the simulator plays it, answers its clients, and jumps that no caller sees.
NOT_OURS_TO_TELL = {
    "bounded.py": {"DeadlinePassed", "NoPlace"},
    "api/bodies.py": {"BodyTooLong", "LengthUnknown"},
    "api/plain.py": {"_NotOurs", "_Refused"},
    "checks/reached.py": {"_Unreached"},
    "simulator/esxi/authd.py": {"_Refused"},
    "simulator/control.py": {"_NotFound"},
    "simulator/screen/rfb.py": {"RFBError"},
    "simulator/vcenter/soap.py": {"Fault", "Malformed"},
    "simulator/model/states.py": {"UnknownField"},
}


def below(error: type[MksFilterError]) -> Iterator[type[MksFilterError]]:
    yield error
    for special in error.__subclasses__():
        yield from below(special)


CLASSES = [each for each in below(MksFilterError) if each.__module__ == exceptions.__name__]
BY_REASON: dict[str, list[type[ConsoleError]]] = {}
for each in CLASSES:
    if issubclass(each, ConsoleError):
        BY_REASON.setdefault(each.reason, []).append(each)


def cell(values: list[str]) -> str:
    return ", ".join(dict.fromkeys(values)) or "–"


def test_the_docstring_draws_the_whole_tree_and_all_is_public() -> None:
    drawn = set(re.findall(r"\b[A-Z]\w+\b", exceptions.__doc__ or ""))
    names = {each.__name__ for each in CLASSES}
    assert names <= drawn
    assert names == set(exceptions.__all__) - {"Retry"}


def test_every_reason_has_a_row_and_every_row_a_reason() -> None:
    rows = [found[0] for found in ROW.findall((ROOT / "docs" / "errors.md").read_text("utf-8"))]
    assert sorted(rows) == sorted(BY_REASON)


@pytest.mark.parametrize("row", ROW.findall((ROOT / "docs" / "errors.md").read_text("utf-8")))
def test_a_row_says_what_the_class_does(row: tuple[str, ...]) -> None:
    slug, status, close, retry, words, remedy = row
    classes = BY_REASON[slug]
    answered = [each for each in classes if not issubclass(each, (SessionEnded, ConnectionDropped))]
    closed = [each for each in classes if not issubclass(each, ConnectionDropped)]
    assert status == cell(sorted(str(each.status) for each in answered))
    assert close == cell([str(code) for code in sorted(each.close_code for each in closed)])
    assert {retry} == {each.retry for each in classes}
    assert words == " / ".join(dict.fromkeys(each.public for each in classes))
    assert remedy


def test_the_page_is_built_with_the_same_reasons() -> None:
    printed = subprocess.run(
        [sys.executable, "-S", ROOT / "tools" / "reasons"], capture_output=True, check=True
    ).stdout
    assert json.loads(printed) == {
        slug: {"retry": classes[0].retry, "words": classes[0].public}
        for slug, classes in BY_REASON.items()
    }


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_a_close_code_may_be_sent_and_words_are_a_sentence(error: type[MksFilterError]) -> None:
    if not issubclass(error, ConsoleError):
        return
    # RFC 6455 section 7.4: registered codes, and 4000 to 4999 for applications.
    code = error.close_code
    assert code in (1000, 1001, 1002, 1008, 1009, 1011, 1012, 1013, 1014) or 4000 <= code < 5000
    assert 400 <= error.status < 600
    assert error.public[0].isupper()
    assert error.public.endswith(".")


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text("utf-8"))


def test_no_error_of_ours_stands_outside_the_tree() -> None:
    outside = []
    for name, module in sources():
        for node in ast.walk(module):
            if not isinstance(node, ast.ClassDef) or name == "exceptions.py":
                continue
            for base in node.bases:
                known = getattr(builtins, base.id, None) if isinstance(base, ast.Name) else None
                if isinstance(known, type) and issubclass(known, BaseException):
                    outside.append((name, node.name))
    assert [each for each in outside if each[1] not in NOT_OURS_TO_TELL.get(each[0], ())] == []


def test_what_is_counted_as_refused_is_a_reason() -> None:
    literal = [
        argument.value
        for _, module in sources()
        for node in ast.walk(module)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "refused"
        for argument in ast.walk(node)
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]
    assert set(literal) <= set(BY_REASON)
