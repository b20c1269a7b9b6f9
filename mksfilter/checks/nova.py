"""Will nova-api start with the filter, and will the consoles it hands out open?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mksfilter import config
from mksfilter.checks import options
from mksfilter.checks.finding import Finding
from mksfilter.checks.paste import PasteFile

__all__ = ["NovaConfiguration"]

#: Options of a filter section that are not in :mod:`mksfilter.config`.
_FILTER_ONLY = ("api", "config_file")
_SHARED_WITH_PROXY = ("audience", "ticket_at")
_UNSET = "https://unset.invalid/"


class NovaConfiguration:
    """nova.conf, and api-paste.ini when there is one.

    :param conf_file: nova.conf; None: only the paste file is looked at.
    :raises ConfigurationError: a file cannot be read or is not in INI form.
    """

    def __init__(self, conf_file: str | None, paste_file: str | None) -> None:
        files = [conf_file] if conf_file else []
        self.conf = config.load(files)
        self._name = conf_file or "nova.conf"
        self._has_conf = conf_file is not None
        self._files = config.ConfigurationFiles(files)
        self._paste = PasteFile(paste_file) if paste_file else None

    def findings(self) -> Iterator[Finding]:
        """All that is wrong, in the order of the files."""
        sections: dict[str, Mapping[str, str]] = {}
        if self._paste is not None:
            strategy = self._files.value("api", "auth_strategy") or "keystone"
            yield from self._paste.findings(strategy)
            for name in self._paste.filter_names():
                sections[f"{self._paste.path} [filter:{name}]"] = self._paste.options(name)
        for where, section in sections.items():
            yield from options.unknown(
                config.unknown_in_section(where, section, config.FILTER, also=_FILTER_ONLY)
            )
        if self._has_conf:
            yield from options.unknown(config.unknown_in_files(self._files))
            yield from options.unknown(config.unknown_in_environment())
            for where, section in (sections or {self._name: {}}).items():
                yield from self._settings(where, section)

    def shared(self) -> dict[str, str]:
        """What the proxies must say too, as the first filter section or nova.conf has it."""
        section: Mapping[str, str] = {}
        if self._paste is not None:
            section = next(map(self._paste.options, self._paste.filter_names()), {})
        return {
            name: section.get(name) or str(self.conf[config.GROUP][name])
            for name in _SHARED_WITH_PROXY
        }

    def _settings(self, where: str, section: Mapping[str, str]) -> Iterator[Finding]:
        refused: list[Finding] = []

        def refuse(option: str, words: str, *, in_section: bool) -> None:
            place = where if in_section else self._files.where(config.GROUP, option)
            refused.append(Finding(place, f"option {option}: {words}"))

        settings = config.filter_settings(
            self.conf,
            section,
            fallback_base_url=self._files.value("mks", "mksproxy_base_url") or _UNSET,
            refused=refuse,
        )
        yield from refused
        yield from options.key_repository(where, settings.key_repository)
        if settings.webmks_proxy_base_url == _UNSET:
            yield Finding(
                where,
                "neither webmks_proxy_base_url nor [mks] mksproxy_base_url is set, and Nova's "
                "default http://127.0.0.1:6090/ is reached by no browser",
                "write the URL of the console page, as browsers see it",
            )
        else:
            yield from options.base_url(where, settings.webmks_proxy_base_url)
        yield from options.times(where, settings.token_ttl, settings.session_lifetime)
        if settings.ticket_at == "issue":
            names = options.vcenter_names(self.conf, section)
            if not names:
                yield Finding(
                    where,
                    "ticket_at = issue, and there is no vCenter to take tickets from",
                    "name some in vcenters, each with a group [vcenter.NAME]",
                )
            yield from options.vcenters(self.conf, self._files, names)
