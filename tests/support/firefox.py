"""Firefox, driven by WebDriver BiDi (W3C), which it speaks without a driver."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

__all__ = ["Firefox", "firefox"]

_TIMEOUT = 60


class Firefox:
    """One tab of a browser with a profile of its own.

    :ivar complaints: errors and warnings of its console.
    """

    def __init__(self, websocket: ClientConnection) -> None:
        self.complaints: list[str] = []
        self._websocket = websocket
        self._numbers = itertools.count(1)
        capabilities = {"alwaysMatch": {"acceptInsecureCerts": True}}
        self._ask("session.new", capabilities=capabilities)
        self._ask("session.subscribe", events=["log.entryAdded"])
        self._tab = self._ask("browsingContext.getTree")["contexts"][0]["context"]

    def open(self, url: str) -> None:
        """Load a page."""
        self._ask("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    def reload(self) -> None:
        """As its user would."""
        self._ask("browsingContext.reload", context=self._tab, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """A JSON value of the page, awaited if it is a promise."""
        answer = self._ask(
            "script.evaluate",
            expression=f"Promise.resolve({expression}).then((value) => JSON.stringify(value))",
            target={"context": self._tab},
            awaitPromise=True,
        )
        assert answer["type"] == "success", answer
        return json.loads(answer["result"].get("value", "null"))

    def wait_for(self, condition: str) -> None:
        """Wait until an expression of the page is true."""
        assert self.evaluate(
            f"""new Promise((resolve) => {{
                const end = Date.now() + {_TIMEOUT // 2}000;
                const look = () => ({condition}) ? resolve(true)
                    : Date.now() > end ? resolve(false) : setTimeout(look, 20);
                look();
            }})"""
        ), condition

    def press(self, *keys: str) -> None:
        """Press keys in order and release them in reverse, by WebDriver's values."""
        actions = [{"type": "keyDown", "value": key} for key in keys]
        actions += [{"type": "keyUp", "value": key} for key in reversed(keys)]
        source = {"type": "key", "id": "keyboard", "actions": actions}
        self._ask("input.performActions", context=self._tab, actions=[source])

    def _ask(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._websocket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._websocket.recv(timeout=_TIMEOUT))
            if message.get("method") == "log.entryAdded":
                if message["params"]["level"] in ("warn", "error"):
                    self.complaints.append(message["params"]["text"])
            elif message.get("id") == number:
                assert message["type"] == "success", message
                return message["result"]


@contextlib.contextmanager
def firefox(directory: Path) -> Iterator[Firefox]:
    """Debian's Firefox without a window, its profile in *directory*."""
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        pytest.fail("Firefox is missing; run tools/install-test-tools")
    command = [program, "--headless", "--no-remote", "--profile", str(directory)]
    process = subprocess.Popen(
        [*command, "--remote-debugging-port", "0", "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={"HOME": str(directory), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
    )
    try:
        for line in process.stderr:
            if found := re.search(r"WebDriver BiDi listening on (ws://\S+)", line):
                break
        else:
            pytest.fail("Firefox did not start")
        with connect(f"{found[1]}/session", max_size=None, proxy=None) as websocket:
            yield Firefox(websocket)
    finally:
        process.terminate()
        process.wait(20)
