"""A token opens one console: its name can be claimed once, whichever node asks."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
import time

import pytest

from mksfilter.auth import replay
from mksfilter.auth.replay import GRACE, replay_guard
from mksfilter.exceptions import ConfigurationError, ReplayCacheUnavailable, TokenReplayed
from tests.support.clock import Clock
from tests.support.ports import free_port

JTI = "A" * 22


def exp():
    return int(time.time()) + 600


class Server:
    """A real memcached or redis-server on loopback."""

    def __init__(self, kind, stack):
        self.kind = kind
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"{kind}://{self.address}" + ("/0" if kind == "redis" else "")
        self._stack = stack
        self.start()

    def start(self):
        port = str(self.port)
        if self.kind == "memcached":
            command = [
                "memcached",
                "-l",
                "127.0.0.1",
                "-p",
                port,
                "-U",
                "0",
                "-m",
                "16",
                "-u",
                "nobody",
            ]
        else:
            command = ["redis-server", "--bind", "127.0.0.1", "--port", port, "--save", ""]
            command += ["--appendonly", "no", "--dir", "/tmp"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self._stack.callback(self.stop)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)
        raise AssertionError(f"{self.kind} did not start")

    def stop(self):
        self.process.kill()
        self.process.wait()

    def restart(self):
        self.stop()
        self.start()


@pytest.fixture
def start():
    with contextlib.ExitStack() as stack:

        def start(kind):
            program = {"memcached": "memcached", "redis": "redis-server"}[kind]
            if not shutil.which(program):
                pytest.fail(f"{program} is missing; run tools/install-test-tools")
            return Server(kind, stack)

        yield start


@pytest.fixture(
    params=[pytest.param(kind, marks=pytest.mark.programs) for kind in ("memcached", "redis")]
)
def server(request, start):
    return start(request.param)


class TestSharedMemory:
    def test_lets_a_token_pass_once_whichever_node_asks(self, server):
        here, there = replay_guard(server.url), replay_guard(server.url)
        here.claim(JTI, exp())
        for guard in (here, there):
            with pytest.raises(TokenReplayed, match=JTI):
                guard.claim(JTI, exp())
        there.claim("B" * 22, exp())

    def test_a_name_that_is_given_back_can_be_taken_once_more(self, server):
        here, there = replay_guard(server.url), replay_guard(server.url)
        assert here.claim(JTI, exp())
        with pytest.raises(TokenReplayed):
            here.require_unused(JTI)
        here.give_back(JTI)
        here.require_unused(JTI)
        assert there.claim(JTI, exp())
        other = "C" * 22
        assert here.claim_proof(other, "p1", exp())
        with pytest.raises(TokenReplayed):
            there.claim_proof(other, "p1", exp())
        assert there.claim_proof(other, "p2", exp())
        assert here.claim(other, exp())
        with pytest.raises(TokenReplayed):
            there.claim_proof(other, "p3", exp())
        with pytest.raises(TokenReplayed):
            here.claim(JTI, exp())

    def test_what_cannot_be_given_back_is_said(self, server, caplog):
        guard = replay_guard(server.url)
        server.stop()
        guard.give_back(JTI)
        assert f"event=once-only-not-given-back jti={JTI}" in caplog.text

    def test_lets_one_of_many_pass_that_come_at_once(self, server):
        nodes = [replay_guard(server.url) for _ in range(8)]
        together = threading.Barrier(len(nodes))
        passed = []

        def use(guard):
            together.wait()
            with contextlib.suppress(TokenReplayed):
                guard.claim(JTI, exp())
                passed.append(guard)

        threads = [threading.Thread(target=use, args=(guard,)) for guard in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(passed) == 1

    def test_refuses_while_it_is_down_and_says_why(self, server):
        guard = replay_guard(server.url)
        server.stop()
        with pytest.raises(
            ReplayCacheUnavailable, match=rf"{server.kind} {server.address}.*start it"
        ):
            guard.claim(JTI, exp())

    def test_lets_pass_while_it_is_down_only_when_told_to_and_logs_it(self, server, caplog):
        guard = replay_guard(server.url, fail_open=True)
        server.stop()
        guard.claim(JTI, exp())
        assert f"event=once-only-unchecked jti={JTI}" in caplog.text

    def test_works_again_as_soon_as_it_is_up(self, server):
        guard = replay_guard(server.url)
        guard.claim(JTI, exp())
        server.restart()
        guard.claim("B" * 22, exp())
        server.stop()
        with pytest.raises(ReplayCacheUnavailable):
            guard.claim("C" * 22, exp())
        server.start()
        guard.claim("C" * 22, exp())

    def test_holds_names_and_no_tokens(self, server):
        replay_guard(server.url).claim(JTI, exp())
        held = raw(server, "keys")
        assert f"mksfilter:jti:{JTI}" in held
        assert "mks1." not in held

    def test_forgets_a_name_some_minutes_after_its_token_expired(self, server):
        replay_guard(server.url).claim(JTI, exp())
        assert 600 + GRACE - 5 <= int(raw(server, "ttl")) <= 600 + GRACE

    def test_remembers_tokens_of_more_than_a_month(self, server):
        guard = replay_guard(server.url)
        guard.claim(JTI, exp() + 90 * 86400)
        with pytest.raises(TokenReplayed):
            guard.claim(JTI, exp() + 90 * 86400)


def _asked(server, request):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(request.encode())
        connection.settimeout(5)
        answer = ""
        while not answer.endswith("\r\n"):
            answer += connection.recv(65536).decode()
    return answer


def raw(server, what):
    """What an operator sees who asks the server itself."""
    if server.kind == "redis":
        request = {"keys": "KEYS *\r\n", "ttl": f"TTL mksfilter:jti:{JTI}\r\n"}[what]
    else:
        request = {"keys": "lru_crawler metadump all\r\n", "ttl": f"mg mksfilter:jti:{JTI} t\r\n"}[
            what
        ]
    answer = _asked(server, request)
    while answer.startswith("BUSY"):  # memcached's crawler is at its own work
        answer = _asked(server, request)
    if what == "ttl":
        return answer.strip().lstrip(":").removeprefix("HD t")
    return answer.replace("%3A", ":")


@pytest.mark.parametrize("url", ["memcached://127.0.0.1:{}", "redis://127.0.0.1:{}/0"])
def test_a_silent_server_is_asked_once_and_not_again(url):
    """Each more would cost the user as long again."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(ReplayCacheUnavailable, match=r"(?i)timeout|timed out"):
            replay_guard(url.format(silent.getsockname()[1])).claim(JTI, exp())
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


@pytest.mark.programs
class TestSeveralMemcached:
    def test_share_the_names(self, start):
        one, two = start("memcached"), start("memcached")
        guard = replay_guard(f"memcached://{one.address},{two.address}")
        other_order = replay_guard(f"memcached://{two.address},{one.address}")
        for number in range(40):
            guard.claim(f"{number:022}", exp())
        for number in range(40):
            with pytest.raises(TokenReplayed):
                other_order.claim(f"{number:022}", exp())
        one.stop()
        gone = 0
        for number in range(40):
            # Never "free again" on the server that is left, and never "taken" by guesswork.
            with pytest.raises((TokenReplayed, ReplayCacheUnavailable)) as caught:
                guard.claim(f"{number:022}", exp())
            gone += caught.type is ReplayCacheUnavailable
        assert 0 < gone < 40


class TestLocal:
    def guard(self, **options):
        return replay._Local("local", **options)

    def test_a_name_that_is_given_back_leaves_nothing_behind(self):
        guard = replay_guard("local")
        for _ in range(3):
            assert guard.claim(JTI, exp())
            guard.give_back(JTI)
        assert not guard._names
        assert not guard._ends

    def test_lets_a_token_pass_once_per_process(self):
        guard = replay_guard("local")
        guard.claim(JTI, exp())
        with pytest.raises(TokenReplayed):
            guard.claim(JTI, exp())
        replay_guard("local").claim(JTI, exp())

    def test_forgets_names_when_their_tokens_are_long_expired(self):
        clock = Clock()
        guard = self.guard(clock=clock, monotonic=clock)
        for number in range(100):
            guard.claim(str(number), int(clock()) + 10)
        clock.advance(10 + GRACE)
        guard.claim("new", int(clock()) + 10)
        assert guard._names == {"new"}
        assert len(guard._ends) == 1

    def test_a_clock_that_is_set_forward_and_back_frees_no_name(self):
        clock = Clock()
        guard = self.guard(clock=clock)
        end = int(clock()) + 600
        guard.claim(JTI, end)
        clock.advance(3600)
        guard.claim("meanwhile", int(clock()) + 600)
        clock.advance(-3600)
        with pytest.raises(TokenReplayed):
            guard.claim(JTI, end)

    def test_refuses_rather_than_forgets_when_it_is_full(self, monkeypatch):
        monkeypatch.setattr(replay, "MAX_LOCAL_NAMES", 2)
        guard = self.guard()
        guard.claim("a", exp())
        guard.claim("b", exp())
        with pytest.raises(ReplayCacheUnavailable, match="use memcached or redis"):
            guard.claim("c", exp())
        with pytest.raises(TokenReplayed):
            guard.claim("a", exp())


class TestConfiguration:
    def test_empty_means_no_guard(self):
        assert replay_guard("") is None

    @pytest.mark.parametrize(
        "url",
        [
            "memcache://127.0.0.1:11211",
            "memcached://",
            "memcached://a,,b",
            "memcached://a:port",
            "memcached://a:99999",
            "memcached://a/b",
            "memcached://user:hunter2@a",
            "redis://",
            "redis:///0",
            "redis://:hunter2@a:port/0",
            "redis://:hunter2@a/zero",
            "http://a",
            "localhost",
            "Local",
        ],
    )
    def test_a_wrong_form_is_refused_in_one_line_without_the_password(self, url):
        with pytest.raises(
            ConfigurationError, match=r"memcached://HOST:PORT.*redis.*local"
        ) as caught:
            replay_guard(url)
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize(
        "url",
        [
            "memcached://[::1]:11211",
            "memcached://cache-1,cache-2:11212/",
            "redis://:hunter2@cache:6380/3",
            "rediss://cache/0",
        ],
    )
    def test_every_documented_form_is_taken_without_connecting(self, url):
        assert replay_guard(url) is not None

    @pytest.mark.parametrize(
        ("url", "library", "extra"),
        [
            ("memcached://127.0.0.1", "pymemcache.client.base", "mksfilter[memcached]"),
            ("redis://127.0.0.1/0", "redis", "mksfilter[redis]"),
        ],
    )
    def test_a_missing_library_is_named_with_its_remedy(self, monkeypatch, url, library, extra):
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(ConfigurationError) as caught:
            replay_guard(url)
        assert f"pip install '{extra}'" in str(caught.value)

    def test_a_down_redis_with_a_password_keeps_it_to_itself(self):
        guard = replay_guard(f"redis://user:hunter2@127.0.0.1:{free_port()}/0")
        with pytest.raises(ReplayCacheUnavailable) as caught:
            guard.claim(JTI, exp())
        assert "hunter2" not in str(caught.value)


def test_the_clients_are_imported_only_when_asked_for():
    code = (
        "import sys; from mksfilter.auth.replay import replay_guard; replay_guard('local');"
        "assert not {'redis', 'pymemcache'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_option_of_the_url_that_redis_does_not_know_is_told_at_the_start():
    with pytest.raises(ConfigurationError, match="option behind") as caught:
        replay_guard("redis://:s3cret@127.0.0.1:6379/0?sokcet_timeout=1")
    assert "s3cret" not in str(caught.value)
    assert replay_guard("redis://127.0.0.1:6379/0?health_check_interval=5") is not None
