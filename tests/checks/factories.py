"""What the paste files of test_paste_loader.py name."""

from __future__ import annotations


def app(global_conf, **local_conf):
    """An application factory; the application is what it was called with."""
    return [("app", dict(local_conf))]


def filter_(global_conf, **local_conf):
    """A filter factory; a filter puts what its factory was called with in front."""
    return lambda inner: [("filter", dict(local_conf)), *inner]
