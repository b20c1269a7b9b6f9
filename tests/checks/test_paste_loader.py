"""What Paste accepts is accepted, and what it refuses is refused in its words."""

from __future__ import annotations

import sys

import pytest
from paste.deploy import loadapp

from mksfilter.checks.paste_loader import APP, Loader
from mksfilter.exceptions import ConfigurationError

APPLICATION = "[app:api]\npaste.app_factory = tests.checks.factories:app\nname = api\n"
FILTER = "[filter:one]\npaste.filter_factory = tests.checks.factories:filter_\nname = one\n"
PIPELINE = "[pipeline:main]\npipeline = one api\n"
ALL = PIPELINE + FILTER + APPLICATION

ACCEPTED = {
    "explicit": ALL,
    "call": PIPELINE + APPLICATION + "[filter:one]\nuse = call:tests.checks.factories:filter_\na=b",
    "use of a section": ALL + "[filter:two]\nuse = one\nname = two\n",
    "blanks in a section's name": ALL.replace("filter:one", "filter:  one "),
    "application": ALL.replace("[app:", "[application:"),
    "interpolation": ALL + "path = %(here)s/x\npercent = 100%%\n",
    "set": ALL.replace("name = one", "set name = one"),
    "get": "[DEFAULT]\nshared = 1\n" + ALL.replace("name = one", "get mine = shared"),
    "default": "[DEFAULT]\nname = global\n" + ALL,
    "filter-with": ALL + "filter-with = one\n",
    "filter-app": ALL.replace("api\n", "front\n", 1)
    + "[filter-app:front]\npaste.filter_factory = tests.checks.factories:filter_\nnext = api\n",
    "pipeline in a pipeline": ALL.replace("one api", "one inner")
    + "[pipeline:inner]\npipeline = one one api\n",
    "egg in a pipeline": ALL.replace("one api", "egg:PasteDeploy#prefix api"),
    "colons, comments and continuations": "# c\n[pipeline:main]\npipeline:\n  one\n  api\n; c\n"
    + FILTER
    + APPLICATION,
}
REFUSED = {
    "no such section": PIPELINE.replace("one", "none") + APPLICATION,
    "ambiguous": ALL + "[filter: one]\na = b\n",
    "blank before the kind": ALL.replace("[filter:", "[ filter:"),
    "no loader": PIPELINE + APPLICATION + "[filter:one]\nname = one\n",
    "two loaders": ALL + "paste.composite_factory = x:y\n",
    "percent": ALL + "rate = 100%\n",
    "unknown in interpolation": ALL + "path = %(there)s\n",
    "pipeline with more": ALL.replace("one api", "one api\nname = main"),
    "pipeline without": ALL.replace("pipeline = one api", ""),
    "egg without the entry point": PIPELINE + APPLICATION + "[filter:one]\nuse = egg:PasteDeploy\n",
    "call without an object": PIPELINE + APPLICATION + "[filter:one]\nuse = call:tests.checks\n",
    "scheme": PIPELINE + APPLICATION + "[filter:one]\nuse = eggs:PasteDeploy\n",
    "next missing": ALL.replace("[pipeline:main]\npipeline = one api", "[filter-app:main]"),
    "filter at the end": ALL.replace("one api", "api one"),
    "section twice": ALL + APPLICATION,
    "option twice": ALL + "name = again\n",
    "get of nothing": ALL.replace("name = one", "get mine = shared"),
}


def load(path):
    loader = Loader(str(path))
    return loader, loader.load(APP, "main", where=str(path))


@pytest.fixture
def file(tmp_path, request):
    path = tmp_path / "api-paste.ini"
    path.write_text(request.param)
    return path


@pytest.mark.parametrize("file", ACCEPTED.values(), ids=ACCEPTED.keys(), indirect=True)
def test_every_part_gets_what_paste_would_give_it(file):
    loader, parts = load(file)

    assert loader.refusals == []
    if "PasteDeploy" not in file.read_text():
        made = [("filter", dict(part.options)) for part in parts[:-1]]
        assert [*made, ("app", dict(parts[-1].options))] == loadapp(f"config:{file}", name="main")


@pytest.mark.parametrize("file", REFUSED.values(), ids=REFUSED.keys(), indirect=True)
def test_what_paste_refuses_is_refused_in_its_words(file):
    with pytest.raises(Exception) as refused:  # noqa: PT011 (Paste's have no common base)
        loadapp(f"config:{file}", name="main")
    loader, _ = load(file)

    assert loader.refusals
    words = " ".join(str(refused.value).split())
    if not isinstance(refused.value, KeyError):
        assert words in loader.refusals[0].words


def test_all_that_is_wrong_is_kept(tmp_path):
    file = tmp_path / "api-paste.ini"
    file.write_text("[pipeline:main]\npipeline = one two three api\n[filter:two]\na = 1\n")

    loader, parts = load(file)

    assert [(each.where.partition(" ")[2], each.name) for each in loader.refusals] == [
        ("[pipeline:main]", "api"),
        ("[pipeline:main]", "one"),
        ("[filter:two]", ""),
        ("[pipeline:main]", "three"),
    ]
    assert [part.name for part in parts] == ["one", "two", "three", "api"]


def test_where_a_value_is_refused_is_told_with_its_line(tmp_path):
    file = tmp_path / "api-paste.ini"
    file.write_text(ALL + "rate = 100%\n")

    loader, _ = load(file)

    assert loader.refusals[0].where == f"{file} [app:api]"
    assert loader.refusals[0].words.endswith(f"({file}, line {len(ALL.splitlines()) + 1})")


def test_another_file_is_read_where_use_names_it(tmp_path):
    (tmp_path / "other.ini").write_text(FILTER + "more = %(here)s\n")
    file = tmp_path / "api-paste.ini"
    file.write_text(PIPELINE + APPLICATION + "[filter:one]\nuse = config:other.ini#one\n")

    loader, (one, _) = load(file)

    assert loader.refusals == []
    assert one.options == loadapp(f"config:{file}", name="main")[0][1]


def test_nothing_is_imported(tmp_path):
    file = tmp_path / "api-paste.ini"
    (tmp_path / "unwanted_import.py").write_text("raise RuntimeError\ndef app(): pass\n")
    file.write_text("[app:main]\npaste.app_factory = unwanted_import:app\n")
    sys.path.insert(0, str(tmp_path))
    try:
        _, (app,) = load(file)
    finally:
        sys.path.remove(str(tmp_path))

    assert (app.factory.target, app.factory.missing) == ("unwanted_import:app", "")


@pytest.mark.parametrize(
    ("target", "missing", "installed"),
    [
        ("mksfilter.filter:filter_factory", "", True),
        ("mksfilter.fliter:filter_factory", "No module named 'mksfilter.fliter'", True),
        ("mksfilter.nothing.at:all", "No module named 'mksfilter.nothing'", True),
        ("mksfilter.filter:factory", "module 'mksfilter.filter' has no attribute 'factory'", True),
        ("mksfilter.filter:ConsoleFilter.factory", "", True),
        ("nowhere_at_all:app", "nowhere_at_all is not installed here", False),
        # `paste` is shared by several distributions.
        ("paste.nowhere:app", "No module named 'paste.nowhere'", False),
    ],
)
def test_a_factory_is_looked_for_without_importing_it(tmp_path, target, missing, installed):
    file = tmp_path / "api-paste.ini"
    file.write_text(f"[app:main]\npaste.app_factory = {target}\n")

    _, (app,) = load(file)

    assert (app.factory.missing, app.factory.installed) == (missing, installed)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no section\n", r"not in INI form: File contains no section headers.*line: 1"),
        ("[a]\nno assignment\n", r"not in INI form: .*\[line +2\]"),
    ],
)
def test_a_file_in_another_form_is_refused_with_its_line(tmp_path, text, words):
    file = tmp_path / "api-paste.ini"
    file.write_text(text)

    with pytest.raises(ConfigurationError, match=words):
        Loader(str(file))
