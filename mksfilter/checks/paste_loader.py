"""PasteDeploy's own loader, that names the objects it would import and goes on after a fault.

What a paste file means is decided by ``paste.deploy.loadwsgi``: interpolation, ``use``, ``set``,
``get``, ``[DEFAULT]``, ``filter-with``, names in pipelines. Here that code runs on the file; only
where it would import a factory, or ask a distribution that is not installed, a :class:`Factory`
takes the object's place, and what it refuses is kept with its own words.

This is the one module that uses private names of PasteDeploy:
``ConfigLoader._context_from_explicit``.
"""

from __future__ import annotations

import ast
import configparser
import dataclasses
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from paste.deploy import loadwsgi

from mksfilter.exceptions import ConfigurationError

__all__ = ["APP", "FILTER", "Factory", "Loader", "Part", "Refusal"]

APP = loadwsgi.APP
FILTER = loadwsgi.FILTER

# What get_context() raises when a file is wrong. IndexError: an empty pipeline.
_REFUSALS = (
    LookupError,
    ValueError,
    AttributeError,
    AssertionError,
    RecursionError,
    OSError,
    configparser.Error,
    ConfigurationError,
)
_COMPOSITES = ("paste.composite_factory", "paste.composit_factory")


@dataclasses.dataclass(frozen=True)
class Factory:
    """What would be imported.

    :param target: ``MODULE:OBJECT``; empty: not known.
    :param written: as the file has it.
    :param missing: why it cannot be imported here; empty: nothing is known against it.
    :param installed: its distribution or package is here, so that *missing* is a fault of the file.
    """

    target: str
    written: str
    missing: str = ""
    installed: bool = True


@dataclasses.dataclass(frozen=True)
class Refusal:
    """What Paste would stop at.

    :param where: ``FILE [SECTION]``.
    :param words: Paste's own, with file and line as far as they are known.
    :param name: the name that was not found, when that is what is wrong.
    :param kind: ``app`` or ``filter``: what it was looked for as.
    """

    where: str
    words: str
    name: str = ""
    kind: str = ""
    near: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Part:
    """A filter or an application of a pipeline.

    :param name: as the pipeline has it.
    :param where: ``FILE [SECTION]`` that describes it; the pipeline's, for an ``egg:`` in it.
    :param options: what its factory is called with.
    :param global_options: what the factory gets as its first argument: [DEFAULT]'s, and ``set``.
    """

    name: str
    where: str
    factory: Factory
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    global_options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    composite: bool = False


class Loader(loadwsgi.ConfigLoader):  # type: ignore[misc]
    """One paste file.

    :raises ConfigurationError: it cannot be read or is not in INI form.
    """

    def __init__(self, path: str, refusals: list[Refusal] | None = None) -> None:
        self.filename = path
        #: All that Paste would stop at, in the order in which it was come across.
        self.refusals: list[Refusal] = [] if refusals is None else refusals
        self._where: list[str] = []
        # Paste takes no second section or option of a name; without it the rest can be looked at.
        self.parser = self._parsed()
        for duplicate in self._duplicates():
            self._refuse(path, duplicate)

    def load(self, kind: Any, name: str, *, where: str) -> list[Part]:
        """The filters in front of *name*, then itself.

        :param kind: :data:`APP` or :data:`FILTER`.
        :param where: ``FILE [SECTION]`` that names it, for what is refused.
        :returns: nothing known of a part that was refused: its factory's target is empty.
        """
        self._where.append(where)
        try:
            return list(self._parts(self.get_context(kind, name), name, where))
        finally:
            self._where.pop()

    def sections(self) -> list[str]:
        """All names in brackets, as written."""
        return list(self.parser.sections())

    def value(self, section: str, option: str) -> str | None:
        """The option as written, nothing interpolated."""
        found = self.parser.get(section, option, raw=True, fallback=None)
        return None if found is None else str(found)

    def section_of(self, kind: Any, name: str) -> str | None:
        """The section that Paste takes for *name*; None: none, or more than one."""
        try:
            return str(self.find_config_section(kind, name))
        except LookupError:
            return None

    def get_context(self, object_type: Any, name: Any = None, global_conf: Any = None) -> Any:
        """As Paste's own, but refusals are kept and an empty context takes their place."""
        found = None
        try:
            if self.absolute_name(name):
                context = self._named_elsewhere(object_type, name, global_conf)
            else:
                found = self.find_config_section(object_type, name=name)
                self._where.append(f"{self.filename} [{found}]")
                try:
                    context = super().get_context(object_type, name, global_conf)
                finally:
                    self._where.pop()
        except importlib.metadata.PackageNotFoundError as exc:
            # By `require`, which is for setuptools to have satisfied.
            context = self._empty(object_type)
            context.object = Factory("", "", f"{exc.name} is not installed here", installed=False)
        except _REFUSALS as exc:
            where = f"{self.filename} [{found}]" if found else self._where[-1]
            self._refuse(where, exc, "" if found or self.absolute_name(name) else name, object_type)
            context = self._empty(object_type)
        context.written_name = name
        context.written_where = f"{self.filename} [{found}]" if found else self._where[-1]
        return context

    def _context_from_explicit(
        self,
        object_type: Any,
        local_conf: Any,
        global_conf: Any,
        global_addition: Any,
        section: Any,
    ) -> Any:
        protocols = [name for group in object_type.egg_protocols for name in group]
        given = [name for name in protocols if name in local_conf]
        if not given or (len(given) > 1 and object_type is not FILTER):
            # Refused, before anything is imported.
            return super()._context_from_explicit(
                object_type, local_conf, global_conf, global_addition, section
            )
        written = local_conf[given[0]]
        local_conf[given[0]] = "builtins:object"
        context = super()._context_from_explicit(
            object_type, local_conf, global_conf, global_addition, section
        )
        context.object = _factory_of_entry_point(written)
        return context

    def _named_elsewhere(self, object_type: Any, name: str, global_conf: Any) -> Any:
        """``egg:``, ``call:`` and ``config:``."""
        scheme, _, rest = name.partition(":")
        scheme = scheme.lower()
        if scheme == "config":
            path, _, inside = rest.partition("#")
            file = os.path.join(os.path.dirname(self.filename), path)
            other = Loader(file, self.refusals)
            other._where = [*self._where]
            return other.get_context(object_type, inside or "main", global_conf)
        context = self._empty(object_type)
        context.global_conf = dict(global_conf or {})
        if scheme == "egg":
            context.object, context.protocol = _factory_of_egg(object_type, rest)
        elif scheme == "call":
            loadwsgi.FuncLoader(rest)  # refuses what is of another form
            context.object = _located(rest, name)
        else:
            # In Paste's words: the scheme is not known.
            loadwsgi.loadcontext(object_type, name)
        return context

    def _empty(self, object_type: Any) -> Any:
        return loadwsgi.LoaderContext(Factory("", ""), object_type, None, {}, {}, self)

    def _parts(self, context: Any, name: str, where: str) -> Iterator[Part]:
        # Contexts that Paste makes inside of a section have its name.
        name = getattr(context, "written_name", name)
        where = getattr(context, "written_where", where)
        kind = context.object_type
        if kind is loadwsgi.PIPELINE:
            for each in [*context.filter_contexts, context.app_context]:
                yield from self._parts(each, name, where)
        elif kind in (loadwsgi.FILTER_APP, loadwsgi.FILTER_WITH):
            yield from self._parts(context.filter_context, name, where)
            yield from self._parts(context.next_context, name, where)
        else:
            yield Part(
                name=name,
                where=where,
                factory=context.object,
                options=dict(context.local_conf),
                global_options=dict(context.global_conf),
                composite=context.protocol in _COMPOSITES,
            )

    def _refuse(self, where: str, exc: Exception, name: str = "", kind: Any = None) -> None:
        section = where.partition("[")[2].rstrip("]")
        words = _words(exc)
        line = self._line_of(section, exc)
        if line and f"line {line}" not in words and f"line  {line}" not in words:
            words += f" ({self.filename}, line {line})"
        prefixes = [] if kind is None else _prefixes(kind)
        near = tuple(
            section
            for section in self._sections_so_far()
            if any(section.strip().startswith(prefix) for prefix in prefixes)
        )
        refusal = Refusal(where, words, name, "filter" if kind is FILTER else "app", near)
        if refusal not in self.refusals:
            self.refusals.append(refusal)

    def _sections_so_far(self) -> Sequence[str]:
        parser = getattr(self, "parser", None)
        return [] if parser is None else list(parser.sections())

    def _line_of(self, section: str, exc: Exception) -> int:
        """Where what is refused stands; 0: not known."""
        if getattr(exc, "lineno", None):
            return int(exc.lineno)  # type: ignore[attr-defined]
        option = getattr(exc, "option", None)
        inside, line_of_section = "", 0
        with open(self.filename, encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if line.startswith("["):
                    inside = line[1 : line.rfind("]")]
                    if inside == section:
                        line_of_section = number
                elif option and inside in (section, "DEFAULT") and _is_option(line, option):
                    return number
        return line_of_section

    def _duplicates(self) -> Iterator[configparser.Error]:
        """What ConfigParser would refuse, in its own words, each and not just the first."""
        section = ""
        sections: set[str] = set()
        seen: set[tuple[str, str]] = set()
        with open(self.filename) as file:
            for number, line in enumerate(file, 1):
                if header := configparser.ConfigParser.SECTCRE.match(line):
                    section = header.group("header")
                    if section in sections:
                        yield configparser.DuplicateSectionError(section, self.filename, number)
                        # Its options are to go with it.
                        section = ""
                    sections.add(section)
                elif section and not line[:1].isspace() and line[:1] not in ("#", ";"):
                    option = re.split("[=:]", line, maxsplit=1)[0].strip()
                    if (section, option) in seen:
                        yield configparser.DuplicateOptionError(
                            section, option, self.filename, number
                        )
                    seen.add((section, option))

    def _parsed(self) -> Any:
        here = os.path.abspath(self.filename)
        parser = loadwsgi.NicerConfigParser(
            self.filename,
            defaults={"here": os.path.dirname(here), "__file__": here},
            strict=False,
        )
        parser.optionxform = str
        try:
            # As Paste opens it, in the encoding of the locale.
            with open(self.filename) as file:
                parser.read_file(file)
        except OSError as exc:
            raise ConfigurationError(
                f"{self.filename}: {(exc.strerror or str(exc)).lower()}"
            ) from exc
        except (configparser.Error, UnicodeDecodeError) as exc:
            raise ConfigurationError(f"{self.filename}: not in INI form: {_words(exc)}") from exc
        return parser


def _prefixes(kind: Any) -> list[str]:
    return [f"{prefix}:" for group in kind.config_prefixes for prefix in group]


def _is_option(line: str, option: str) -> bool:
    rest = line[len(option) :].lstrip()
    return line.startswith(option) and rest[:1] in ("=", ":")


def _words(exc: Exception) -> str:
    """An error's own words, in one line."""
    if isinstance(exc, RecursionError):
        return "it refers to itself"
    if isinstance(exc, IndexError):
        return "the pipeline is empty"
    if isinstance(exc, KeyError):
        return f"{exc.args[0]!r} is none of the global options that 'get' takes from"
    return " ".join(str(exc).split())


def _factory_of_entry_point(written: str) -> Factory:
    entry = importlib.metadata.EntryPoint(name="", group="", value=written)
    try:
        target = f"{entry.module}:{entry.attr}"
    except (AssertionError, AttributeError):  # which of them depends on Python's patch release
        raise LookupError(f"{written!r} is not of the form MODULE:OBJECT") from None
    return _located(target, written)


def _factory_of_egg(object_type: Any, spec: str) -> tuple[Factory, str | None]:
    name, _, entry = spec.partition("#")
    entry = entry or "main"
    written = f"egg:{spec}"
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        target = _KNOWN.get(f"{name}#{entry}".lower(), "")
        return Factory(target, written, f"{name} is not installed here", installed=False), None
    for protocols in object_type.egg_protocols:
        for protocol in protocols:
            found = loadwsgi.find_entry_point(distribution, protocol, entry)
            if found is not None:
                return _located(found.value, written), protocol
    # Nothing to load, so it only says so.
    loadwsgi.EggLoader(name).find_egg_entry_point(object_type, entry)
    raise LookupError(f"no entry point {entry!r} in egg {name!r}")


#: What these eggs are where they are installed; their order matters to us even where they are not.
_KNOWN = {
    "keystonemiddleware#auth_token": "keystonemiddleware.auth_token:filter_factory",
    "keystonemiddleware#audit": "keystonemiddleware.audit:filter_factory",
    "mksfilter#mksfilter": "mksfilter.filter:filter_factory",
    "paste#urlmap": "paste.urlmap:urlmap_factory",
}


def _located(target: str, written: str) -> Factory:
    """Look for the module without importing it, as its packages' search paths have it."""
    module = target.partition(":")[0].strip()
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return Factory(target, written, f"{top} is not installed here", installed=False)
    name = top
    for part in rest:
        name = f"{name}.{part}"
        if spec.submodule_search_locations is None:
            break
        # Below a namespace each part is a distribution of its own.
        whole = spec.origin is not None
        spec = importlib.machinery.PathFinder.find_spec(name, [*spec.submodule_search_locations])
        if spec is None:
            return Factory(target, written, f"No module named {name!r}", installed=whole)
    attribute = target.partition(":")[2].strip().partition(".")[0]
    if attribute and name == module and not _may_have(spec.origin, attribute):
        return Factory(target, written, f"module {module!r} has no attribute {attribute!r}")
    return Factory(target, written)


def _may_have(source: str | None, name: str) -> bool:
    """Whether a module's source binds *name*, as far as can be seen without running it."""
    if source is None or not source.endswith(".py"):
        return True
    try:
        with open(source, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return True
    return not {name, "*", "__getattr__"}.isdisjoint(_bound(tree))


def _bound(node: ast.AST) -> Iterator[str]:
    """The names that a module binds at its top, in branches too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield child.name
            continue
        if isinstance(child, ast.alias):
            yield child.asname or child.name.partition(".")[0]
        elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id
        yield from _bound(child)
