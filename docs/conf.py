"""Sphinx configuration: Markdown pages only."""

project = "mksfilter"
author = "the mksfilter authors"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "alabaster"
myst_heading_anchors = 3
# Pygments has no lexer for HAProxy's configuration.
suppress_warnings = ["misc.highlighting_failure"]
