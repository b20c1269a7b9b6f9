"""Will the proxy start, and is what it is told free of contradictions?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from mksfilter import config
from mksfilter.auth.replay import replay_guard
from mksfilter.checks import options
from mksfilter.checks.finding import Finding
from mksfilter.exceptions import ConfigurationError
from mksfilter.proxy.console.origin import OriginPolicy, TrustedProxies, parse_networks

__all__ = ["ProxyConfiguration"]


class ProxyConfiguration:
    """The proxy's configuration files.

    :raises ConfigurationError: a file cannot be read or is not in INI form.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self.conf = config.load(files)
        self._name = files[-1]
        self._files = config.ConfigurationFiles(config.expand(files))

    def findings(self) -> Iterator[Finding]:
        """All that is wrong and can be seen without asking anybody."""
        yield from options.unknown(config.unknown_in_files(self._files))
        yield from options.unknown(config.unknown_in_environment())
        names = options.vcenter_names(self.conf)
        yield from options.vcenters(self.conf, self._files, names)
        if next(self._files.named(config.NOVA_GROUP), None) is not None:
            yield from options.errors_of(self._name, partial(config.nova_settings, self.conf))
        refused: list[Finding] = []

        def refuse(option: str, words: str, *, in_section: bool) -> None:  # noqa: ARG001
            refused.append(
                Finding(self._files.where(config.GROUP, option), f"option {option}: {words}")
            )

        settings = config.proxy_settings(self.conf, refused=refuse)
        yield from refused
        yield from options.key_repository(self._name, settings.key_repository)
        yield from self._values(settings)
        yield from self._contradictions(settings, names)

    def disagreements(self, filters: dict[str, str]) -> Iterator[Finding]:
        """Where the filter says something else, so that no console would open."""
        for name, theirs in filters.items():
            ours = str(self.conf[config.GROUP][name])
            if ours != theirs:
                yield Finding(
                    self._name,
                    f"{name} is {ours!r} here and {theirs!r} for the filter",
                    "write the same for both",
                )

    def connect(self) -> Iterator[tuple[bool, Finding]]:
        """Log in to every vCenter; what was found, and whether it is good."""
        try:
            settings = config.vcenter_settings(self.conf)
        except ConfigurationError:
            return  # findings() has said so
        from mksfilter.checks.vcenters import check_vcenters

        for name, good, words in check_vcenters(settings):
            yield good, Finding(f"{self._name} [vcenter.{name}]", words)

    def _values(self, settings: config.ProxySettings) -> Iterator[Finding]:
        yield from options.errors_of(
            self._name,
            partial(OriginPolicy, settings.allowed_origins, TrustedProxies()),
            partial(TrustedProxies, settings.trusted_proxies),
            partial(parse_networks, settings.allowed_networks, "allowed_networks"),
            partial(parse_networks, settings.metrics_networks, "metrics_networks"),
            partial(replay_guard, settings.replay_cache),
        )

    def _contradictions(
        self, settings: config.ProxySettings, vcenters: Sequence[str]
    ) -> Iterator[Finding]:
        if not vcenters and settings.ticket_at == "connect":
            yield Finding(
                self._name,
                "vcenters is empty, so there is nobody to take a ticket from",
                "name at least one, or set ticket_at = issue where the filter takes the tickets",
            )
        if settings.replay_cache_fail_open and not settings.replay_cache:
            yield Finding(
                self._name,
                "replay_cache_fail_open without replay_cache: tokens may be used twice anyway",
                "set replay_cache, or remove it",
            )
        if settings.replay_cache == "local" and settings.replay_cache_fail_open:
            yield Finding(
                self._name,
                "replay_cache = local cannot fail, so replay_cache_fail_open means nothing",
                "remove it",
            )
        if 0 < settings.session_lifetime < settings.idle_timeout:
            yield Finding(
                self._name,
                f"idle_timeout {settings.idle_timeout} is longer than session_lifetime "
                f"{settings.session_lifetime}, so it never comes to it",
                "make it shorter, or 0",
            )
