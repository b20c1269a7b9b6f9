"""Is the filter in every pipeline of an api-paste.ini that it belongs in, at the right place?

Nova chooses one line of a ``[composite:...]`` by ``[api] auth_strategy``; a gateway of its own may
have plain ``[pipeline:...]`` sections. Both are read here, as Paste would load them.
"""

from __future__ import annotations

import configparser
import dataclasses
from collections.abc import Iterator, Mapping

from mksfilter.checks.finding import Finding
from mksfilter.exceptions import ConfigurationError

__all__ = ["PasteFile", "Pipeline"]

_ENTRY_POINTS = ("egg:mksfilter#mksfilter", "egg:mksfilter")
_FACTORY = "mksfilter.filter:filter_factory"
_NOVA_COMPOSITE = "nova.api.auth:pipeline_factory_v21"
_NOVA_APP = "nova.api.openstack.compute:"
_CONTEXT = "nova.api.auth:"
_AUTHENTICATION = "keystonemiddleware.auth_token:"

#: Keys of a filter section that Paste takes for itself.
_PASTE_KEYS = frozenset({"use", "paste.filter_factory"})


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Filters in order, then an application.

    :param section: where it is written, ``[composite:NAME] keystone`` for example.
    """

    section: str
    filters: tuple[str, ...]
    app: str


class PasteFile:
    """An api-paste.ini.

    :raises ConfigurationError: it cannot be read or is not in INI form.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        # A section name that nobody has: Paste does not merge [DEFAULT] into a filter's options.
        self._parser = configparser.RawConfigParser(
            strict=False, default_section="\0", delimiters=("=", ":"), allow_no_value=True
        )
        self._parser.optionxform = _as_written  # type: ignore[assignment,method-assign]
        try:
            with open(path, encoding="utf-8") as file:
                self._parser.read_file(file, source=path)
        except OSError as exc:
            raise ConfigurationError(f"{path}: {(exc.strerror or str(exc)).lower()}") from exc
        except (configparser.Error, UnicodeDecodeError) as exc:
            raise ConfigurationError(f"{path}: not in INI form: {_one_line(exc)}") from exc

    def options(self, name: str) -> dict[str, str]:
        """What section ``[filter:NAME]`` says to the filter itself."""
        section = self._section("filter", name)
        return {
            key.removeprefix("set ").strip(): value or ""
            for key, value in section.items()
            if key not in _PASTE_KEYS
        }

    def filter_names(self) -> tuple[str, ...]:
        """The sections that are this filter, by what comes after ``filter:``."""
        names = (kind_and_name[1] for kind_and_name in self._named("filter"))
        return tuple(name for name in names if self._is_ours(name))

    def pipelines(self, auth_strategy: str = "keystone") -> Iterator[Pipeline]:
        """Every pipeline that ends in Nova's compute API.

        :param auth_strategy: Nova's ``[api] auth_strategy``.
        """
        for _, name in self._named("composite"):
            section = self._section("composite", name)
            if _NOVA_COMPOSITE in (section.get("use") or ""):
                line = section.get(auth_strategy) or ""
                yield from self._pipeline(f"[composite:{name}] {auth_strategy}", line)
        for _, name in self._named("pipeline"):
            line = self._section("pipeline", name).get("pipeline") or ""
            yield from self._pipeline(f"[pipeline:{name}]", line)

    def findings(self, auth_strategy: str = "keystone") -> Iterator[Finding]:
        """What is wrong with the place of the filter."""
        ours = set(self.filter_names())
        pipelines = list(self.pipelines(auth_strategy))
        if not ours:
            yield Finding(
                self.path,
                "no section is this filter",
                "add '[filter:mksfilter]' with 'use = egg:mksfilter#mksfilter', as in "
                "etc/api-paste.ini",
            )
        if not pipelines:
            yield Finding(
                self.path,
                f"no pipeline of Nova's compute API for auth_strategy {auth_strategy!r}",
                "is this the api-paste.ini that nova-api loads?",
            )
        for pipeline in pipelines:
            yield from self._place(pipeline, ours)

    def _place(self, pipeline: Pipeline, ours: set[str]) -> Iterator[Finding]:
        where = f"{self.path} {pipeline.section}"
        name = min(ours, default="mksfilter")
        places = [index for index, item in enumerate(pipeline.filters) if item in ours]
        if not places:
            yield Finding(
                where, "the filter is missing", f"write {name} just before {pipeline.app}"
            )
            return
        if len(places) > 1:
            yield Finding(where, "the filter is there more than once", "leave the last one")
        place = places[-1]
        after = pipeline.filters[place + 1 :]
        late = [item for item in after if self._is_factory(item, (_CONTEXT, _AUTHENTICATION))]
        if late:
            yield Finding(
                where,
                f"the filter stands before {late[-1]}, so it would not know who asks",
                f"move {pipeline.filters[place]} to just before {pipeline.app}",
            )
        elif after:
            yield Finding(
                where,
                f"between the filter and {pipeline.app} stands {' '.join(after)}, which console "
                f"requests would pass by",
                f"move {pipeline.filters[place]} to just before {pipeline.app}",
            )
        for item in pipeline.filters:
            if item not in ours and not self._parser.has_section(f"filter:{item}"):
                yield Finding(
                    where,
                    f"{item} is not a section of this file",
                    f"add [filter:{item}] or remove it",
                )

    def _pipeline(self, section: str, line: str) -> Iterator[Pipeline]:
        *filters, app = line.split() or [""]
        if self._factory("app", app).startswith(_NOVA_APP):
            yield Pipeline(section, tuple(filters), app)

    def _is_ours(self, name: str) -> bool:
        section = self._section("filter", name)
        use = (section.get("use") or "").strip()
        return use in _ENTRY_POINTS or self._factory("filter", name) == _FACTORY

    def _is_factory(self, name: str, prefixes: tuple[str, ...]) -> bool:
        return self._factory("filter", name).startswith(prefixes)

    def _factory(self, kind: str, name: str) -> str:
        section = self._section(kind, name)
        return (section.get(f"paste.{kind}_factory") or section.get("use") or "").strip()

    def _named(self, kind: str) -> Iterator[tuple[str, str]]:
        for section in self._parser.sections():
            found, _, name = section.partition(":")
            if found.strip() == kind:
                yield section, name.strip()

    def _section(self, kind: str, name: str) -> Mapping[str, str | None]:
        for section, found in self._named(kind):
            if found == name:
                return dict(self._parser.items(section))
        return {}


def _as_written(option: str) -> str:
    return option


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())
