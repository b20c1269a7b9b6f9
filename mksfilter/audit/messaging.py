"""Audit events as notifications over oslo.messaging, in CADF.

The one module that uses a private name of oslo.messaging: its Notifier logs that a broker is down
and returns as if all were well, so that what it calls is called here, ``_send_notification`` of the
transport, which raises.
"""

from __future__ import annotations

import datetime
import threading
from typing import Any, Final

import oslo_messaging

from mksfilter.audit.cadf import to_cadf
from mksfilter.audit.events import AuditEvent
from mksfilter.bounded import BoundedCalls, DeadlinePassed, NoPlace
from mksfilter.exceptions import ConfigurationError

__all__ = ["MessagingSink"]

_TIMEOUT: Final = 10.0


class MessagingSink:
    """
    :param conf: where oslo.messaging's own groups are read from (``[oslo_messaging_rabbit]``).
    :param url: of the broker, as ``transport_url`` is written.
    :param topic: notifications are sent to ``TOPIC.info``.
    :raises ConfigurationError: the URL names no driver that is installed.
    """

    name = "messaging"

    def __init__(self, conf: Any, url: str, topic: str) -> None:
        self._topic = topic
        self._calls = BoundedCalls("audit-notification", limit=1, timeout=_TIMEOUT)
        try:
            # Connects at the first use.
            self._transport = oslo_messaging.get_notification_transport(conf, url=url)
        except (
            oslo_messaging.DriverLoadFailure,
            oslo_messaging.InvalidTransportURL,
            ValueError,
        ) as exc:
            # Not its text, which may hold the URL with a password.
            raise ConfigurationError(
                f"audit_transport_url: no such driver, or not a URL ({type(exc).__name__})"
            ) from None

    def write(self, item: AuditEvent) -> None:
        """:raises OSError: the broker does not take it."""
        message = {
            "message_id": item.id,
            "publisher_id": f"mksfilter.{item.node}",
            "event_type": f"mksfilter.console.{item.action}",
            "priority": "INFO",
            "payload": to_cadf(item),
            "timestamp": str(
                datetime.datetime.fromtimestamp(item.time, tz=datetime.timezone.utc).replace(
                    tzinfo=None
                )
            ),
        }
        target = oslo_messaging.Target(topic=f"{self._topic}.info")
        try:
            # A broker that accepts and says nothing would hold the writer for as long as it likes.
            self._calls.run(
                lambda: self._transport._send_notification(
                    target, {}, message, version=2.0, retry=0
                )
            )
        except (DeadlinePassed, NoPlace):
            raise OSError(f"no answer from the broker within {_TIMEOUT:g} s") from None
        except Exception as exc:
            raise OSError(f"{type(exc).__name__}: {exc}") from None

    def close(self) -> None:
        # A broker that is away is not waited for.
        threading.Thread(target=self._transport.cleanup, daemon=True).start()
