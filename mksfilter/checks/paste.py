"""Is the filter in every pipeline of an api-paste.ini that it belongs in, at the right place?

nova-api loads ``osapi_compute``, whose composites lead to pipelines that end in Nova's API; one
line of each is chosen by ``[api] auth_strategy``. A gateway of its own may have any pipeline. What
a file means is Paste's own code's to say (:mod:`mksfilter.checks.paste_loader`).
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
from collections.abc import Iterator, Sequence

from mksfilter.checks.finding import Finding, Kind
from mksfilter.checks.paste_loader import APP, FILTER, Loader, Part, Refusal

__all__ = ["PasteFile", "Pipeline"]

_FACTORY = "mksfilter.filter:filter_factory"
_FACTORY_OPTION = "paste.filter_factory"
_NOVA_ROOT = "osapi_compute"
_NOVA_PIPELINES = ("nova.api.auth:pipeline_factory",)
_URL_MAPS = ("nova.api.openstack.urlmap:urlmap_factory", "paste.urlmap:urlmap_factory")
_NOVA_APP = ("nova.api.openstack.compute:APIRouter", "nova.api.openstack.compute.routes:")
# Nova's noauth2, which says itself who asks, whatever the headers say.
_NO_AUTHENTICATION = "nova.api.openstack.auth:"
_CONTEXT = ("nova.api.auth:", _NO_AUTHENTICATION)
_AUTHENTICATION = ("keystonemiddleware.auth_token:", "keystonemiddleware.auth_token.")
# Known to authenticate nobody.
_HARMLESS = (
    "keystonemiddleware.audit:",
    "mksfilter.filter:",
    "nova.",
    "oslo_middleware",
    "osprofiler.",
)
_ROOTS = ("composite", "composit", "pipeline", "filter-app")
# Composites in composites; more is a circle.
_DEPTH = 20
_FORGED = (
    "nothing confirms who asks: console requests are refused (401), or, with identity = "
    "trusted-headers, a caller's own X-Roles is believed"
)


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Filters in order, then an application.

    :param where: ``FILE [composite:NAME] keystone``, for example.
    """

    where: str
    filters: tuple[Part, ...]
    app: Part

    @property
    def is_novas(self) -> bool:
        """It ends in Nova's compute API."""
        return self.app.factory.target.startswith(_NOVA_APP)

    @property
    def ours(self) -> tuple[Part, ...]:
        """The filter, wherever it stands."""
        return tuple(part for part in self.filters if _is(part, (_FACTORY,)))


class PasteFile:
    """An api-paste.ini.

    :raises ConfigurationError: it cannot be read or is not in INI form.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._loader = Loader(path)
        #: Names of sections that are meant to be the filter, well or badly.
        self._meant: set[str] = set()
        for section in self._loader.sections():
            kind, _, name = section.partition(":")
            texts = [self._loader.value(section, key) or "" for key in ("use", _FACTORY_OPTION)]
            ours = any(text.strip().startswith(("egg:mksfilter", _FACTORY)) for text in texts)
            if kind == "filter" and ("mksfilter" in name or ours):
                self._meant.add(name.strip())
        self._visited: set[str | None] = set()
        self._missing: dict[str, Part] = {}
        self._opaque: dict[str, Part] = {}
        self._without_line: list[Finding] = []

    def unused(self) -> list[Part]:
        """The filter's sections, whether or not a pipeline has them."""
        found = []
        for name in sorted(self._meant):
            found += self._loader.load(FILTER, name, where=self.path)
        return [part for part in found if part.factory.target == _FACTORY]

    def pipelines(self, auth_strategy: str = "keystone") -> list[Pipeline]:
        """What nova-api would load; in a file that is not Nova's, every pipeline.

        :param auth_strategy: Nova's ``[api] auth_strategy``.
        """
        if self._loader.section_of(APP, _NOVA_ROOT):
            roots = [f"composite:{_NOVA_ROOT}"]
        else:
            roots = [
                section
                for section in self._loader.sections()
                if section.partition(":")[0] in _ROOTS
            ]
        found: list[Pipeline] = []
        self._visited.clear()
        for root in sorted(roots, key=lambda section: not section.startswith("composi")):
            # A pipeline that others lead to is none of its own.
            if root not in self._visited:
                name = root.partition(":")[2].strip()
                found += self._from(name, self.path, (), auth_strategy)
        return found

    def findings(self, auth_strategy: str = "keystone", *, nova: bool = False) -> Iterator[Finding]:
        """What Paste would refuse, and what is wrong with the place of the filter.

        :param nova: it is nova-api's: a pipeline of Nova's has to be there.
        """
        sections = self.unused()
        pipelines = self.pipelines(auth_strategy)
        novas = [pipeline for pipeline in pipelines if pipeline.is_novas]
        if not self._meant and not any(pipeline.ours for pipeline in pipelines):
            yield Finding(
                self.path,
                "no section is this filter",
                "add '[filter:mksfilter]' with 'use = egg:mksfilter#mksfilter', as in "
                "etc/api-paste.ini",
            )
        judged = novas or [
            pipeline for pipeline in pipelines if any(map(self._is_ours, pipeline.filters))
        ]
        if nova and not novas:
            yield Finding(
                self.path,
                f"no pipeline of Nova's compute API for auth_strategy {auth_strategy!r}",
                "is this the api-paste.ini that nova-api loads?",
            )
        elif not judged and sections:
            yield Finding(
                self.path,
                f"no pipeline has {sections[0].name} in it",
                "write it into the pipeline of the API, right before the application",
            )
        for pipeline in judged:
            yield from self._place(pipeline, sections)
        yield from self._without_line
        yield from map(self._refused, self._loader.refusals)
        yield from self._importable()

    def _from(
        self, name: str, where: str, before: tuple[Part, ...], strategy: str, depth: int = 0
    ) -> Iterator[Pipeline]:
        self._visited.add(self._loader.section_of(APP, name))
        *filters, app = self._loader.load(APP, name, where=where)
        yield from self._through(
            Pipeline(self._where(name, where), (*before, *filters), app), strategy, depth
        )

    def _through(self, pipeline: Pipeline, strategy: str, depth: int) -> Iterator[Pipeline]:
        """*pipeline*, or where its composite leads."""
        app = pipeline.app
        for part in (*pipeline.filters, app):
            if part.factory.missing:
                self._missing.setdefault(part.where, part)
        if not app.composite or depth > _DEPTH:
            yield pipeline
            return
        target = app.factory.target
        if target.startswith(_NOVA_PIPELINES):
            where = f"{app.where} {strategy}"
            words = app.options.get(strategy, "").split()
            if not words:
                self._without_line.append(
                    Finding(
                        app.where,
                        f"no line for auth_strategy {strategy!r}, so that nova-api does not start",
                        f"add '{strategy} = ...' or correct [api] auth_strategy",
                    )
                )
                return
            before = [*pipeline.filters]
            for word in words[:-1]:
                before += self._loader.load(FILTER, word, where=where)
            self._visited.add(self._loader.section_of(APP, words[-1]))
            *more, last = self._loader.load(APP, words[-1], where=where)
            yield from self._through(Pipeline(where, (*before, *more), last), strategy, depth + 1)
        elif target in _URL_MAPS:
            for path, name in app.options.items():
                if path.startswith(("/", "http")) or path == "not_found_app":
                    yield from self._from(
                        name.strip(), app.where, pipeline.filters, strategy, depth + 1
                    )
        else:
            self._opaque.setdefault(app.where, app)

    def _where(self, name: str, where: str) -> str:
        section = self._loader.section_of(APP, name)
        return f"{self.path} [{section}]" if section else where

    def _refused(self, refusal: Refusal) -> Finding:
        if not refusal.name:
            return Finding(refusal.where, f"Paste refuses it: {refusal.words}")
        names = {section.partition(":")[2].strip(): section for section in refusal.near}
        near = difflib.get_close_matches(refusal.name, names, n=1)
        if refusal.name in names:
            hint = f" (did you mean [{names[refusal.name].strip()}], without the blanks?)"
        else:
            hint = f" (did you mean {near[0]}?)" if near else ""
        if refusal.words.startswith("Ambiguous"):
            return Finding(refusal.where, f"Paste refuses it: {refusal.words}")
        return Finding(
            refusal.where,
            f"{refusal.name} is not a section of this file",
            f"add [{refusal.kind}:{refusal.name}] or remove it{hint}; Paste: {refusal.words}",
        )

    def _place(self, pipeline: Pipeline, sections: Sequence[Part]) -> Iterator[Finding]:
        where, app = pipeline.where, pipeline.app.name
        places = [index for index, part in enumerate(pipeline.filters) if self._is_ours(part)]
        if not places:
            name = sections[0].name if sections else "mksfilter"
            yield Finding(where, "the filter is missing", f"write {name} just before {app}")
            return
        if len(places) > 1:
            yield Finding(where, "the filter is there more than once", "leave the last one")
        place = places[-1]
        ours = pipeline.filters[place]
        before, after = pipeline.filters[:place], pipeline.filters[place + 1 :]
        move = f"move {ours.name} to just before {app}"
        yield from self._mode(pipeline, ours)
        late = [part for part in after if _is(part, _AUTHENTICATION)]
        unknown = [part for part in after if _is(part, _CONTEXT)]
        if late:
            yield Finding(where, f"the filter stands before {late[0].name}: {_FORGED}", move)
        elif unknown:
            yield Finding(
                where,
                f"the filter stands before {unknown[-1].name}, so it would not know who asks",
                move,
            )
        elif after:
            yield Finding(
                where,
                f"between the filter and {app} stands {' '.join(part.name for part in after)}, "
                f"which console requests would pass by",
                move,
            )
        elif len(places) == 1:
            yield from self._authenticated(pipeline, ours, before)

    def _mode(self, pipeline: Pipeline, ours: Part) -> Iterator[Finding]:
        mode = ours.options.get("api", "auto")
        if mode == "plain" and pipeline.is_novas:
            yield Finding(
                ours.where,
                "api = plain in a pipeline of Nova's: Nova's own policy would not be asked",
                "remove it",
            )
        elif mode == "nova" and not pipeline.is_novas:
            yield Finding(
                ours.where,
                f"api = nova, and {pipeline.where} does not end in Nova's API",
                "write api = plain",
            )
        elif mode not in ("auto", "nova", "plain"):
            yield Finding(ours.where, f"api = {mode!r} is none of auto, nova, plain")

    def _authenticated(
        self, pipeline: Pipeline, ours: Part, before: Sequence[Part]
    ) -> Iterator[Finding]:
        where = pipeline.where
        last = before[-1].name if before else ""
        known = any(_is(part, (*_AUTHENTICATION, _NO_AUTHENTICATION)) for part in before)
        context = [part for part in before if _is(part, _CONTEXT)]
        if pipeline.is_novas and not context:
            yield Finding(
                where,
                "no keystonecontext stands before the filter, so it would not know who asks",
                f"write it before {ours.name}",
            )
        elif any(not part.factory.written for part in pipeline.filters):
            return  # what Paste refuses there is told
        elif known:
            yield Finding(
                where,
                f"{ours.name} stands after {last} and right before {pipeline.app.name}",
                kind=Kind.GOOD,
            )
        elif not (others := [part.name for part in before if not _is(part, _HARMLESS)]):
            yield Finding(
                where,
                f"nothing before the filter authenticates: {_FORGED}",
                f"write authtoken (keystonemiddleware) before {ours.name}",
            )
        else:
            yield Finding(
                where,
                f"whether {' '.join(others)} authenticates callers, and removes their own "
                f"X-User-Id, X-Project-Id and X-Roles headers",
                kind=Kind.UNCHECKED,
            )

    def _is_ours(self, part: Part) -> bool:
        target = part.factory.target
        # What Paste refuses has no target; what it was meant to be is told by its name.
        return target == _FACTORY or (part.name in self._meant and not target)

    def _importable(self) -> Iterator[Finding]:
        nova_is_here = importlib.util.find_spec("nova") is not None
        away: list[str] = []
        for part in self._missing.values():
            factory = part.factory
            if factory.installed or nova_is_here:
                yield Finding(
                    part.where, f"Paste cannot load {factory.written!r}: {factory.missing}"
                )
            else:
                away.append(factory.missing.partition(" ")[0])
        if away:
            yield Finding(
                self.path,
                f"the sections of {', '.join(dict.fromkeys(away))}, not installed here",
                "run this where the API is",
                kind=Kind.UNCHECKED,
            )
        for part in self._opaque.values():
            yield Finding(
                part.where,
                f"which pipelines {part.factory.written or 'its factory'} makes of it",
                kind=Kind.UNCHECKED,
            )


def _is(part: Part, prefixes: tuple[str, ...]) -> bool:
    return part.factory.target.startswith(prefixes)
