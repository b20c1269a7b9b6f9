"""Will nova-api (or another API) start with the filter, and will the consoles it gives out open?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from mksfilter import config
from mksfilter.api.policy import ConsolePolicy
from mksfilter.checks import options
from mksfilter.checks.finding import Finding, Kind
from mksfilter.checks.nova_conf import NovaConf
from mksfilter.checks.paste import PasteFile
from mksfilter.checks.paste_loader import Factory, Part
from mksfilter.exceptions import ConfigurationError
from mksfilter.issuer import ProxyUrls

__all__ = ["NovaConfiguration"]

#: Options of a filter section that are not in :mod:`mksfilter.config`.
_FILTER_ONLY = ("api", "config_file")
_SHARED_WITH_PROXY = ("audience", "ticket_at", "key_repository")
_UNSET = "https://unset.invalid/"


class NovaConfiguration:
    """nova.conf, and api-paste.ini when there is one; or the paste file of another API.

    :param conf_files: files and directories of Nova's configuration; None: it is not looked at.
    :raises ConfigurationError: a file cannot be read or is not in INI form.
    """

    def __init__(self, conf_files: Sequence[str] | None, paste_file: str | None) -> None:
        self._conf = None if conf_files is None else NovaConf(conf_files)
        self._paste = PasteFile(paste_file) if paste_file else None
        self._parts: list[Part] = []

    def findings(self) -> Iterator[Finding]:
        """All that is wrong, and what is good or not known here, in the order of the files."""
        parts: list[tuple[Part, bool]] = []
        conf = self._conf
        if conf is not None:
            strategy, wrong = conf.value("api", "auth_strategy")
            if wrong is not None:
                yield wrong
        else:
            strategy = None
        if self._paste is not None:
            yield from self._paste.findings(strategy or "keystone", nova=conf is not None)
            pipelines = self._paste.pipelines(strategy or "keystone")
            parts = [(part, pipeline.is_novas) for pipeline in pipelines for part in pipeline.ours]
            # A section that is in no pipeline yet is written for the one it will be in.
            used = {part.where for part, _ in parts}
            parts += [
                (part, part.options.get("api") != "plain")
                for part in self._paste.unused()
                if part.where not in used and not parts
            ]
        if conf is not None:
            yield from options.unknown(config.unknown_in_files(conf.files))
            yield from options.unknown(config.unknown_in_environment())
            yield from conf.findings()
        seen: set[str] = set()
        for part, in_nova in parts:
            if part.where in seen:
                continue
            seen.add(part.where)
            self._parts.append(part)
            yield from self._section(part, in_nova)
        if conf is not None and not any(in_nova for _, in_nova in parts):
            yield from self._settings(Part("", conf.files.where("", ""), Factory("", "")), conf)

    def shared(self) -> dict[str, str]:
        """What the proxies must say too, as the first filter section or nova.conf has it."""
        section = self._parts[0].options if self._parts else {}
        conf = config.load() if self._conf is None else self._conf.conf
        return {
            name: section.get(name) or str(conf[config.GROUP][name]) for name in _SHARED_WITH_PROXY
        }

    def base_url(self) -> str:
        """Where the filter sends browsers; empty: not known."""
        section = self._parts[0].options if self._parts else {}
        conf = config.load() if self._conf is None else self._conf.conf
        fallback = "" if self._conf is None else self._conf.value("mks", "mksproxy_base_url")[0]
        url = section.get("webmks_proxy_base_url") or conf[config.GROUP].webmks_proxy_base_url
        return str(url or fallback or "")

    def _section(self, part: Part, in_nova: bool) -> Iterator[Finding]:
        yield from options.unknown(
            config.unknown_in_section(part.where, part.options, config.FILTER, also=_FILTER_ONLY)
        )
        for name in sorted(
            config.FILTER.options & part.global_options.keys() - part.options.keys()
        ):
            yield Finding(
                part.where,
                f"{name} is a global option here (in [DEFAULT], or by 'set'), which the filter "
                f"does not read",
                f"write '{name} = ...' into this section, and not into [DEFAULT] too",
            )
        conf = self._conf
        if not in_nova:
            # As the filter itself does, which has nothing to do with nova.conf then.
            files = part.options.get("config_file") or part.global_options.get("config_file", "")
            try:
                conf = NovaConf(files.split())
            except ConfigurationError as exc:
                yield Finding(part.where, f"config_file: {exc}")
                return
            yield from options.unknown(config.unknown_in_files(conf.files))
        elif conf is None:
            yield Finding(
                part.where, "what nova.conf says", "name it with --nova-conf", Kind.UNCHECKED
            )
            return
        yield from self._settings(part, conf, in_nova=in_nova)

    def _settings(self, part: Part, conf: NovaConf, *, in_nova: bool = True) -> Iterator[Finding]:
        refused: dict[str, Finding] = {}

        def where(option: str) -> str:
            if option in part.options or (part.where and not conf.files.files):
                return part.where
            return conf.files.where(config.GROUP, option)

        def refuse(option: str, words: str, *, in_section: bool) -> None:
            hint = "" if in_section else conf.hint(config.GROUP, option)
            refused[option] = Finding(where(option), f"option {option}: {words}", hint)

        fallback, wrong = conf.value("mks", "mksproxy_base_url") if in_nova else (None, None)
        if wrong is not None:
            yield wrong
        settings = config.filter_settings(
            conf.conf, part.options, fallback_base_url=fallback or _UNSET, refused=refuse
        )
        yield from refused.values()
        if conf.is_resolved(settings.key_repository):
            yield from options.key_repository(where("key_repository"), settings.key_repository)
        own = part.options.get("webmks_proxy_base_url") or conf.files.value(
            config.GROUP, "webmks_proxy_base_url"
        )
        if "webmks_proxy_base_url" in refused:
            pass
        elif settings.webmks_proxy_base_url == _UNSET:
            yield Finding(
                part.where,
                "neither webmks_proxy_base_url nor [mks] mksproxy_base_url is set, and Nova's "
                "default http://127.0.0.1:6090/ is reached by no browser"
                if in_nova
                else "webmks_proxy_base_url is not set",
                "write the URL of the console page, as browsers see it",
            )
        elif own or settings.webmks_proxy_base_url != fallback:
            yield from options.base_url(
                where("webmks_proxy_base_url"), settings.webmks_proxy_base_url
            )
        else:
            yield from options.base_url(
                conf.files.where("mks", "mksproxy_base_url"), fallback, "mksproxy_base_url"
            )
        yield from options.times(
            where("session_lifetime" if settings.session_lifetime else "token_ttl"),
            settings.token_ttl,
            settings.session_lifetime,
        )
        if not in_nova:
            yield from options.errors_of(
                where("policy_file"),
                partial(ConsolePolicy, settings.policy_file, view_rule=settings.view_role_policy),
            )
        yield from options.errors_of(
            where("vcenters"),
            lambda: ProxyUrls("https://common/", config.proxy_routes(conf.conf, part.options)),
        )
        names = options.vcenter_names(conf.conf, part.options)
        if settings.ticket_at == "issue":
            if not names:
                yield Finding(
                    where("ticket_at"),
                    "ticket_at = issue, and there is no vCenter to take tickets from",
                    "name some in vcenters, each with a group [vcenter.NAME]",
                )
            yield from options.vcenters(conf.conf, conf.files, names)
        else:
            yield from options.unused_vcenters(conf.files, names)
