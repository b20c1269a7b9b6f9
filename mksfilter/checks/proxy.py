"""Will the proxy start, and is what it is told free of contradictions?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from mksfilter import config, runtime_directory, tls
from mksfilter.audit.places import make_trail
from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.replay import replay_guard
from mksfilter.auth.token import TokenCodec
from mksfilter.checks import node, options
from mksfilter.checks.finding import Finding, Kind
from mksfilter.checks.reached import Reached
from mksfilter.exceptions import ConfigurationError
from mksfilter.issuer import token_url
from mksfilter.proxy import fd_budget, sdk
from mksfilter.proxy.ancestors import parse_ancestor
from mksfilter.proxy.console.origin import OriginPolicy, TrustedProxies, parse_networks
from mksfilter.tcp import split_address
from mksfilter.tls_groups import check_groups

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
        audit = config.audit_settings(self.conf, refused=refuse)
        yield from refused
        yield from options.errors_of(
            self._where("audit_transport_url"), partial(make_trail, audit, "proxy")
        )
        yield from node.audit_places(self._where, audit)
        yield from self._promises()
        yield from options.key_repository(self._where("key_repository"), settings.key_repository)
        yield from self._values(settings)
        yield from self._contradictions(settings, names)

    def disagreements(self, filters: dict[str, str]) -> Iterator[Finding]:
        """Where the filter says something else, so that no console would open.

        :param filters: what the filter says of what both need, ``key_repository`` among it.
        """
        yield from self._keys(filters.pop("key_repository", ""))
        for name, theirs in filters.items():
            ours = str(self.conf[config.GROUP][name])
            if ours != theirs:
                yield Finding(
                    self._where(name),
                    f"{name} is {ours!r} here and {theirs!r} for the filter",
                    "write the same for both",
                )

    def _keys(self, filters: str) -> Iterator[Finding]:
        """Does this repository have the key that the filter signs with?"""
        own = str(self.conf[config.GROUP].key_repository)
        try:
            theirs, ours = KeyRepository(filters), KeyRepository(own)
            signs, (known, _) = theirs.primary().kid, ours.look()
        except ConfigurationError:
            return  # told for each file
        if signs in known:
            words = f"the filter signs with key {signs}, which is here"
            yield Finding(self._where("key_repository"), words, kind=Kind.GOOD)
        else:
            yield Finding(
                self._where("key_repository"),
                f"the filter signs with key {signs} of {filters}, and {own} has "
                f"{', '.join(sorted(known))} only: every link is refused",
                "copy the filter's keys to the proxies",
            )

    def connect(
        self, *, base_url: str = "", instance: str = "", descriptors: int = 0
    ) -> Iterator[Finding]:
        """How all of it stands on this machine, and from this machine.

        :param base_url: the filter's, where this file has none.
        :param instance: Nova's UUID: its console is opened.
        :param descriptors: the limit of a process that is started here; 0: this one's.
        """
        # findings() has said what is refused.
        settings = config.proxy_settings(self.conf, refused=lambda *_, **__: None)
        vcenters: tuple[config.VCenterSettings, ...] = ()
        with contextlib.suppress(ConfigurationError):
            vcenters = config.vcenter_settings(self.conf)
        yield from self._vcenters(vcenters)
        where = self._where
        yield from node.page()
        limit = descriptors or fd_budget.limit()
        yield from node.descriptors(where("max_sessions"), settings, limit)
        yield from node.once_only(where("replay_cache"), settings)
        yield from node.world(where, settings)
        yield from node.secrets_in_files(self._files)
        codec = self._codec(settings)
        if codec is None:
            return
        url = settings.webmks_proxy_base_url or base_url
        yield from self._reached(settings, codec, url)
        if instance:
            yield from self._walk(settings, vcenters, codec, url, instance)

    def _vcenters(self, vcenters: Sequence[config.VCenterSettings]) -> Iterator[Finding]:
        if not vcenters:
            return
        from mksfilter.checks import site
        from mksfilter.checks.vcenters import check_vcenters

        checked = check_vcenters(vcenters, runtime_directory=self._runtime_directory)
        for settings, (name, good, words) in zip(vcenters, checked, strict=True):
            kind = Kind.GOOD if good else Kind.ERROR
            where = self._files.where(f"vcenter.{name}", "host")
            yield Finding(where, words, kind=kind)
            if good:
                yield from site.look_at(settings, where, runtime_directory=self._runtime_directory)

    @property
    def _runtime_directory(self) -> str:
        """The node's: log-ins that are refused to a check count with the proxy's own."""
        return runtime_directory.find(self.conf[config.GROUP].runtime_directory)

    def _codec(self, settings: config.ProxySettings) -> TokenCodec | None:
        keys = KeyRepository(settings.key_repository)
        try:
            keys.load()
        except ConfigurationError:
            return None  # findings() has said so
        return TokenCodec(keys, settings.audience, clock_skew=settings.clock_skew)

    def _reached(
        self, settings: config.ProxySettings, codec: TokenCodec, url: str
    ) -> Iterator[Finding]:
        where = self._where("webmks_proxy_base_url")
        if not url or config.VCENTER_PLACE in url:
            yield Finding(
                where,
                "how browsers reach the page",
                "set webmks_proxy_base_url here too, or give --nova-conf",
                Kind.UNCHECKED,
            )
            return
        yield from Reached(
            where,
            url,
            codec,
            sealed=settings.ticket_at == "issue",
            clock_skew=settings.clock_skew,
            trusted=bool(settings.trusted_proxies),
        ).findings()

    def _walk(
        self,
        settings: config.ProxySettings,
        vcenters: Sequence[config.VCenterSettings],
        codec: TokenCodec,
        url: str,
        instance: str,
    ) -> Iterator[Finding]:
        where = self._where("vcenters")
        if not vcenters:
            yield Finding(
                where, f"instance {instance}: no vCenter to ask here", kind=Kind.UNCHECKED
            )
            return
        from mksfilter.backends.resolver import Consoles
        from mksfilter.checks.walk import Walk

        with contextlib.closing(
            Consoles(
                vcenters,
                allowed_networks=settings.allowed_networks,
                runtime_directory=self._runtime_directory,
            )
        ) as consoles:
            walk = Walk(where, codec, consoles, base_url=url, tls_groups=settings.tls_groups)
            yield from walk.findings(instance)

    def _promises(self) -> Iterator[Finding]:
        """What each vCenter's certificates and kind of console are told to be."""
        try:
            vcenters = config.vcenter_settings(self.conf)
        except ConfigurationError:
            return  # findings() has said so
        for settings in vcenters:
            where = self._files.where(f"vcenter.{settings.name}", "host")
            yield from options.errors_of(where, partial(tls.ssl_context, settings))
            try:
                from mksfilter.backends import registry
            except ModuleNotFoundError:  # pyVmomi
                yield Finding(where, "backend", "pip install 'mksfilter[vcenter]'", Kind.UNCHECKED)
            else:
                yield from options.errors_of(where, partial(registry.load, settings))

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
            "wmks_dir": partial(sdk.configured, settings.console_client, settings.wmks_dir),
            "tls_groups": partial(check_groups, settings.tls_groups),
            "frame_ancestors": partial(list, map(parse_ancestor, settings.frame_ancestors)),
        }
        if settings.management_bind:
            attempts["management_bind"] = partial(
                split_address, settings.management_bind, "management_bind"
            )
        url = settings.webmks_proxy_base_url
        if url and config.VCENTER_PLACE not in url:
            attempts["webmks_proxy_base_url"] = partial(token_url, url, "")
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
