"""Fuzz targets: hostile bytes into every parser that the outside reaches.

Each module here but this package's own machinery is a target: ``TestOneInput(data: bytes)`` calls
the code as the proxy does and raises when a promise is broken. ``python -m tests.fuzz --help``.
"""
