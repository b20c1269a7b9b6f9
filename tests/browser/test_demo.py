"""The README's first command, and the URL it prints, in a browser."""

from __future__ import annotations

import time

from tests.support.demo import running_demo


def test_the_url_that_the_demo_prints_is_a_console_in_the_browser(new_screen):
    with running_demo() as (_, lines):
        screen = new_screen(lines[-1])
        screen.wait_until("connected")
        before = screen.wait_for_picture()
        assert "token" not in screen.page.url
        screen.page.keyboard.type("hello")
        deadline = time.monotonic() + 20
        while screen.picture() == before:
            assert time.monotonic() < deadline, "typed text does not appear"
        assert screen.violations() == []
        assert screen.complaints == []
        screen.page.close()
