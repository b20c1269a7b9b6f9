"""The commands of a documentation page, and what it says that they print."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from tests.support.machine import Wire
from tests.support.source import ROOT

__all__ = ["Command", "Page"]

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPT = re.compile(r"^([a-z]+[0-9N])# (.*)$")
_HERE_DOCUMENT = re.compile(r"<<'(\w+)'$")


@dataclasses.dataclass
class Command:
    """One command of a page.

    :ivar where: the prompt: a machine's name, or ``proxyN`` for each proxy.
    :ivar text: with its here-document.
    :ivar expected: lines that it prints, in this order; an ellipsis stands for anything.
    """

    where: str
    text: str
    expected: list[str]


class Page:
    """A page under ``docs/``.

    :param replaced: names and addresses of the examples, and what stands for them in the test.
    """

    def __init__(self, name: str, replaced: Mapping[str, str]) -> None:
        self._text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        for old, new in replaced.items():
            self._text = self._text.replace(old, new)

    def commands(self, heading: str) -> list[Command]:
        """Those of the section whose heading contains *heading*, in order."""
        sections = re.split(r"^## ", self._text, flags=re.MULTILINE)
        (section,) = (part for part in sections if heading in part.splitlines()[0])
        found: list[Command] = []
        for block in _BLOCK.findall(section):
            lines = iter(block.splitlines())
            for line in lines:
                prompt = _PROMPT.match(line)
                if not prompt:
                    found[-1].expected.append(line)
                    continue
                command = Command(prompt[1], prompt[2], [])
                document = _HERE_DOCUMENT.search(command.text)
                while document and command.text.splitlines()[-1] != document[1]:
                    command.text += "\n" + next(lines)
                found.append(command)
        assert found, heading
        return found

    def follow(self, heading: str, wire: Wire) -> str:
        """Run them as root where they belong, and compare what they print with the page.

        :returns: what the last one printed.
        """
        said = ""
        for command in self.commands(heading):
            for name, machine in sorted(wire.machines.items()):
                if re.fullmatch(command.where.replace("N", r"\d"), name):
                    said = machine.run(command.text)
                    _compare(command, said)
        return said


def _compare(command: Command, said: str) -> None:
    position = 0
    for line in command.expected:
        parts = ".*".join(re.escape(part) for part in line.split("…"))
        found = re.compile(rf"^{parts}$", re.MULTILINE).search(said, position)
        assert found, f"{command.text}\nshould say: {line}\nbut said: {said}"
        position = found.end()
