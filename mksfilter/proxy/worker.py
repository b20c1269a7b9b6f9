"""The name that operators give gunicorn: ``gunicorn -k mksfilter.proxy.worker.ConsoleWorker``."""

from __future__ import annotations

from mksfilter.proxy.server.worker import ConsoleWorker

__all__ = ["ConsoleWorker"]
