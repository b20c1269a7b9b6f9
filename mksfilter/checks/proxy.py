"""Will the proxy start, and is what it is told free of contradictions?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from mksfilter import config
from mksfilter.auth.replay import replay_guard
from mksfilter.checks import options
from mksfilter.checks.finding import Finding, Kind
from mksfilter.exceptions import ConfigurationError
from mksfilter.proxy.console.origin import OriginPolicy, TrustedProxies, parse_networks

__all__ = ["ProxyConfiguration"]


class ProxyConfiguration:
    """The proxy's configuration files.

    :raises ConfigurationError: a file cannot be read or is not in INI form.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self.conf = config.load(files)
        self._files = config.ConfigurationFiles(config.expand(files))

    def findings(self) -> Iterator[Finding]:
        """All that is wrong and can be seen without asking anybody."""
        yield from options.unknown(config.unknown_in_files(self._files))
        yield from options.unknown(config.unknown_in_environment())
        names = options.vcenter_names(self.conf)
        yield from options.vcenters(self.conf, self._files, names)
        nova = next(self._files.named(config.NOVA_GROUP), None)
        if nova is not None:
            yield from options.errors_of(nova.file, partial(config.nova_settings, self.conf))
        refused: list[Finding] = []

        def refuse(option: str, words: str, **_: bool) -> None:
            refused.append(Finding(self._where(option), f"option {option}: {words}"))

        settings = config.proxy_settings(self.conf, refused=refuse)
        yield from refused
        yield from options.key_repository(self._where("key_repository"), settings.key_repository)
        yield from self._values(settings)
        yield from self._contradictions(settings, names)

    def disagreements(self, filters: dict[str, str]) -> Iterator[Finding]:
        """Where the filter says something else, so that no console would open."""
        for name, theirs in filters.items():
            ours = str(self.conf[config.GROUP][name])
            if ours != theirs:
                yield Finding(
                    self._where(name),
                    f"{name} is {ours!r} here and {theirs!r} for the filter",
                    "write the same for both",
                )

    def connect(self) -> Iterator[Finding]:
        """Log in to every vCenter."""
        try:
            settings = config.vcenter_settings(self.conf)
        except ConfigurationError:
            return  # findings() has said so
        from mksfilter.checks.vcenters import check_vcenters

        for name, good, words in check_vcenters(settings):
            kind = Kind.GOOD if good else Kind.ERROR
            where = self._files.where(f"vcenter.{name}", "host")
            yield Finding(where, words, kind=kind)

    def _has_nova(self) -> bool:
        try:
            return config.nova_settings(self.conf) is not None
        except ConfigurationError:
            return True  # findings() has said what is wrong with it

    def _where(self, option: str) -> str:
        return self._files.where(config.GROUP, option)

    def _values(self, settings: config.ProxySettings) -> Iterator[Finding]:
        attempts: dict[str, Callable[[], object]] = {
            "allowed_origins": partial(OriginPolicy, settings.allowed_origins, TrustedProxies()),
            "trusted_proxies": partial(TrustedProxies, settings.trusted_proxies),
            "replay_cache": partial(replay_guard, settings.replay_cache),
        }
        for option in ("allowed_networks", "metrics_networks"):
            attempts[option] = partial(parse_networks, getattr(settings, option), option)
        for option, attempt in attempts.items():
            yield from options.errors_of(self._where(option), attempt)

    def _contradictions(
        self, settings: config.ProxySettings, vcenters: Sequence[str]
    ) -> Iterator[Finding]:
        if not vcenters and settings.ticket_at == "connect":
            yield Finding(
                self._where("vcenters"),
                "vcenters is empty, so there is nobody to take a ticket from",
                "name at least one, or set ticket_at = issue where the filter takes the tickets",
            )
        if settings.replay_cache_fail_open and not settings.replay_cache:
            yield Finding(
                self._where("replay_cache_fail_open"),
                "replay_cache_fail_open without replay_cache: tokens may be used twice anyway",
                "set replay_cache, or remove it",
            )
        if settings.replay_cache == "local" and settings.replay_cache_fail_open:
            yield Finding(
                self._where("replay_cache_fail_open"),
                "replay_cache = local cannot fail, so replay_cache_fail_open means nothing",
                "remove it",
            )
        if settings.resume_asks_nova and not self._has_nova():
            yield Finding(
                self._where("resume_asks_nova"),
                "resume_asks_nova is set, and [nova] names no way to log in",
                "set auth_type, auth_url, username and password in [nova], or remove it",
            )
        if 0 < settings.session_lifetime < settings.idle_timeout:
            yield Finding(
                self._where("idle_timeout"),
                f"idle_timeout {settings.idle_timeout} is longer than session_lifetime "
                f"{settings.session_lifetime}, so it never comes to it",
                "make it shorter, or 0",
            )
