"""Once-only: a token's name is claimed in shared memory before its session is opened.

What each setting guarantees:

``local``
    once per worker process, until that process ends.
``memcached://HOST:PORT[,HOST:PORT]``
    once for all nodes, as long as the server that keeps the name is not restarted and does not
    evict it. Each name has one server; when that one is down, its names are refused rather than
    claimed elsewhere.
``redis://[USER:PASSWORD@]HOST:PORT/DB`` (``rediss://`` for TLS)
    once for all nodes, as long as the server keeps its data (``maxmemory-policy noeviction``, and
    persistence if it is to survive a restart).

Names are ``jti`` claims, never the token, so that nothing that opens a console is in the cache.
"""

from __future__ import annotations

import abc
import heapq
import importlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from mksfilter import extras
from mksfilter.exceptions import ConfigurationError, ReplayCacheUnavailable, TokenReplayed
from mksfilter.log import event

__all__ = ["ReplayGuard", "replay_guard"]

LOG = logging.getLogger(__name__)

#: Seconds; a browser waits for the answer.
TIMEOUT = 1.0
#: Seconds by which a name outlives its token: more than clock_skew can be.
GRACE = 360
#: Names that ``local`` remembers, about 15 MB of them.
MAX_LOCAL_NAMES = 100_000

_PREFIX = "mksfilter:jti:"
_MEMCACHED_RELATIVE_LIMIT = 30 * 86400  # longer ones are taken for a time since the epoch


class ReplayGuard(abc.ABC):
    """Lets each token name pass once."""

    def __init__(
        self, name: str, *, fail_open: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        """
        :param name: of the memory, for messages; holds no password.
        :param fail_open: let tokens pass while the memory is down.
        :param clock: seconds since the epoch.
        """
        self._name = name
        self._fail_open = fail_open
        self._clock = clock

    def claim(self, jti: str, exp: int) -> bool:
        """Take the name *jti*, which nobody else can from now on.

        :param exp: the token's ``exp``, seconds since the epoch.
        :returns: whether the name is ours: to be given back, should nothing come of it. False
            where the memory was not asked.
        :raises TokenReplayed: it is taken.
        :raises ReplayCacheUnavailable: the memory cannot be asked, and ``fail_open`` is not set.
        """
        try:
            first = self._add(jti, max(int(exp - self._clock()), 0) + GRACE)
        except ReplayCacheUnavailable as exc:
            if not self._fail_open:
                raise
            LOG.warning(event("once-only-unchecked", jti=jti, detail=exc))
            return False
        if not first:
            raise TokenReplayed(f"token {jti} was used before")
        return True

    def claim_proof(self, jti: str, proof: str, exp: int) -> bool:
        """Take the name of one proof for a token whose own name is still free, and stays so: its
        bearer may not hear the answer, and then makes another proof.

        :param proof: its name.
        :param exp: the token's ``exp``.
        :returns: as :meth:`claim`.
        :raises TokenReplayed: the token is used up, or this very proof came before.
        :raises ReplayCacheUnavailable: as for :meth:`claim`.
        """
        try:
            used = self._has(jti)
        except ReplayCacheUnavailable as exc:
            if not self._fail_open:
                raise
            LOG.warning(event("once-only-unchecked", jti=jti, detail=exc))
            return False
        if used:
            raise TokenReplayed(f"token {jti} was used before")
        return self.claim(f"{jti}.{proof}", exp)

    def require_unused(self, jti: str) -> None:
        """Whether the name *jti* is free; it is not taken.

        :raises TokenReplayed: it is taken.
        :raises ReplayCacheUnavailable: the memory cannot be asked.
        """
        if self._has(jti):
            raise TokenReplayed(f"token {jti} was used before")

    def give_back(self, jti: str) -> None:
        """Nothing came of a claim that was ours: the token may be used again."""
        try:
            self._remove(jti)
        except ReplayCacheUnavailable as exc:
            LOG.warning(event("once-only-not-given-back", jti=jti, detail=exc))

    @abc.abstractmethod
    def _add(self, jti: str, lifetime: int) -> bool:
        """Remember *jti* for *lifetime* seconds; False when it is there already. Atomic.

        :raises ReplayCacheUnavailable: no answer in time.
        """

    @abc.abstractmethod
    def _has(self, jti: str) -> bool:
        """Whether *jti* is remembered.

        :raises ReplayCacheUnavailable: no answer in time.
        """

    @abc.abstractmethod
    def _remove(self, jti: str) -> None:
        """Forget *jti*.

        :raises ReplayCacheUnavailable: no answer in time.
        """

    def _unavailable(self, exc: Exception, server: str) -> ReplayCacheUnavailable:
        cause = " ".join(str(exc).split())
        return ReplayCacheUnavailable(
            f"replay cache {self._name} {server}: {type(exc).__name__}: {cause}; "
            f"start it, or correct replay_cache"
        )


def replay_guard(url: str, *, fail_open: bool = False) -> ReplayGuard | None:
    """The guard that the option ``replay_cache`` describes; None when it is empty.

    :param fail_open: the option ``replay_cache_fail_open``.
    :raises ConfigurationError: *url* has another form, or its client library is not installed.
    """
    if not url:
        return None
    if url == "local":
        return _Local("local", fail_open=fail_open)
    try:
        # A memcached URL may name several hosts, which urlsplit takes for a bad port.
        scheme = url.partition("://")[0]
        if scheme == "memcached":
            servers = [_address(part) for part in url.partition("://")[2].rstrip("/").split(",")]
            return _Memcached(servers, fail_open=fail_open)
        if scheme in ("redis", "rediss"):
            parts = urlsplit(url)
            if parts.hostname and (parts.path in ("", "/") or parts.path[1:].isdecimal()):
                return _Redis(url, f"{parts.hostname}:{parts.port or 6379}", fail_open=fail_open)
    except ValueError:
        pass
    # The URL itself may hold a password.
    raise ConfigurationError(
        "replay_cache is not of the form memcached://HOST:PORT[,HOST:PORT], redis://HOST:PORT/DB "
        "or local"
    )


class _Local(ReplayGuard):
    # Not the time of day: a clock that is set forward and back must not make a name free.
    def __init__(
        self, name: str, *, monotonic: Callable[[], float] = time.monotonic, **options: Any
    ) -> None:
        super().__init__(name, **options)
        self._lock = threading.Lock()
        self._now = monotonic
        self._names: set[str] = set()
        self._ends: list[tuple[float, str]] = []

    def _add(self, jti: str, lifetime: int) -> bool:
        now = self._now()
        with self._lock:
            while self._ends and self._ends[0][0] <= now:
                self._names.discard(heapq.heappop(self._ends)[1])
            if jti in self._names:
                return False
            if len(self._names) >= MAX_LOCAL_NAMES:
                # Forgetting one early would let its token pass again.
                raise ReplayCacheUnavailable(
                    f"replay cache local: {MAX_LOCAL_NAMES} tokens are remembered, which is all "
                    f"it holds; use memcached or redis"
                )
            self._names.add(jti)
            heapq.heappush(self._ends, (now + lifetime, jti))
            return True

    def _has(self, jti: str) -> bool:
        with self._lock:
            return jti in self._names

    def _remove(self, jti: str) -> None:
        with self._lock:
            if jti in self._names:
                self._names.discard(jti)
                self._ends = [entry for entry in self._ends if entry[1] != jti]
                heapq.heapify(self._ends)


class _Memcached(ReplayGuard):
    # Not pymemcache's HashClient: when a server is down it moves that server's names to another
    # one, where they are free again, and for a while answers "there already" without asking.

    def __init__(self, servers: list[tuple[str, int]], **options: Any) -> None:
        super().__init__("memcached", **options)
        base = _client_library("pymemcache.client.base")
        rendezvous = _client_library("pymemcache.client.rendezvous")
        self._error = _client_library("pymemcache.exceptions").MemcacheError
        self._clients = {
            f"{host}:{port}": base.PooledClient(
                (host, port), connect_timeout=TIMEOUT, timeout=TIMEOUT, no_delay=True
            )
            for host, port in servers
        }
        self._hash = rendezvous.RendezvousHash(list(self._clients))

    def _add(self, jti: str, lifetime: int) -> bool:
        name = _PREFIX + jti
        server = self._hash.get_node(name)
        expire = lifetime
        if lifetime > _MEMCACHED_RELATIVE_LIMIT:
            expire = int(self._clock()) + lifetime
        client = self._clients[server]
        return self._ask(server, lambda: client.add(name, b"1", expire=expire, noreply=False))

    def _has(self, jti: str) -> bool:
        name = _PREFIX + jti
        server = self._hash.get_node(name)
        return self._ask(server, lambda: self._clients[server].get(name))

    def _remove(self, jti: str) -> None:
        name = _PREFIX + jti
        server = self._hash.get_node(name)
        self._ask(server, lambda: self._clients[server].delete(name, noreply=False))

    def _ask(self, server: str, question: Callable[[], object]) -> bool:
        for attempt in (1, 2):
            try:
                return bool(question())
            except (OSError, self._error) as exc:
                # A pooled connection may be from before the server's restart; time is not spent
                # twice.
                if attempt == 2 or isinstance(exc, TimeoutError):
                    raise self._unavailable(exc, server) from exc
        raise AssertionError("unreachable")


class _Redis(ReplayGuard):
    def __init__(self, url: str, address: str, **options: Any) -> None:
        super().__init__("redis", **options)
        self._address = address
        redis = _client_library("redis")
        backoff = _client_library("redis.backoff")
        retry = _client_library("redis.retry")
        self._error = redis.RedisError
        # One more attempt for a pooled connection from before the server's restart.
        self._client = redis.Redis.from_url(
            url,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            retry=retry.Retry(backoff.NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
            retry_on_timeout=False,
        )
        # What the URL's query asks for is looked at when a connection is made; none is opened here.
        pool = self._client.connection_pool
        try:
            pool.connection_class(**pool.connection_kwargs)
        except (TypeError, ValueError, redis.RedisError) as exc:
            raise ConfigurationError(
                "replay_cache has an option behind '?' that the redis client does not know"
            ) from exc

    def _add(self, jti: str, lifetime: int) -> bool:
        try:
            return bool(self._client.set(_PREFIX + jti, b"1", nx=True, ex=lifetime))
        except (OSError, self._error) as exc:
            raise self._unavailable(exc, self._address) from exc

    def _has(self, jti: str) -> bool:
        try:
            return bool(self._client.exists(_PREFIX + jti))
        except (OSError, self._error) as exc:
            raise self._unavailable(exc, self._address) from exc

    def _remove(self, jti: str) -> None:
        try:
            self._client.delete(_PREFIX + jti)
        except (OSError, self._error) as exc:
            raise self._unavailable(exc, self._address) from exc


def _client_library(module: str) -> Any:
    with extras.needed("replay_cache"):
        return importlib.import_module(module)


def _address(text: str) -> tuple[str, int]:
    """:raises ValueError: not ``HOST[:PORT]``."""
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.netloc != text or "@" in text:
        raise ValueError(text)
    return parts.hostname, 11211 if parts.port is None else parts.port
