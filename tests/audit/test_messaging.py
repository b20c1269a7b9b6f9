"""Audit events as CADF notifications, over oslo.messaging's drivers that need no broker."""

from __future__ import annotations

import queue
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from oslo_config import cfg

from mksfilter.audit.events import ACTIONS
from mksfilter.exceptions import ConfigurationError
from tests.audit.test_events import FACTS, made

oslo_messaging = pytest.importorskip("oslo_messaging")
cadftaxonomy = pytest.importorskip("pycadf.cadftaxonomy")

from mksfilter.audit.cadf import to_cadf  # noqa: E402
from mksfilter.audit.messaging import MessagingSink  # noqa: E402
from tests.support.ports import free_port  # noqa: E402


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # Ids of users and nodes need not be UUIDs, says Keystone too.
        warnings.filterwarnings("ignore", message="Invalid uuid")
        yield


@pytest.mark.parametrize("action", ACTIONS)
def test_each_event_is_a_valid_one_of_cadf_with_all_that_is_known(action: str) -> None:
    event = made(action, **FACTS)
    payload = to_cadf(event)  # pycadf refuses what the standard does not allow
    assert payload["typeURI"] == "http://schemas.dmtf.org/cloud/audit/1.0/event"
    assert cadftaxonomy.is_valid_action(payload["action"])
    assert payload["outcome"] == ("failure" if action == "refused" else "success")
    assert payload["initiator"]["id"] == "u"
    assert payload["initiator"]["host"]["address"] == "192.0.2.7"
    assert payload["target"]["id"] == FACTS["instance"]
    assert payload["observer"]["id"] == "node1"
    assert payload["eventTime"] == "2025-11-26T15:00:00.250000+0000"
    assert payload["attachments"][0]["content"] == event.to_mapping()


def test_what_is_not_known_leaves_a_valid_event() -> None:
    payload = to_cadf(made("refused"))
    assert payload["initiator"]["id"] == payload["target"]["id"] == "unknown"


def conf() -> Any:
    made_conf = cfg.ConfigOpts()
    made_conf([], default_config_files=[], default_config_dirs=[])
    return made_conf


def test_a_notification_reaches_who_listens_on_the_topic() -> None:
    heard: queue.Queue[tuple[Any, ...]] = queue.Queue()

    class Listener:
        def info(self, _ctxt, publisher_id, event_type, payload, metadata):
            heard.put((publisher_id, event_type, payload, metadata["message_id"]))

    options = conf()
    transport = oslo_messaging.get_notification_transport(options, url="kombu+memory:////")
    listener = oslo_messaging.get_notification_listener(
        transport, [oslo_messaging.Target(topic="consoles")], [Listener()], executor="threading"
    )
    listener.start()
    try:
        sink = MessagingSink(options, "kombu+memory:////", "consoles")
        event = made("opened", **FACTS)
        sink.write(event)
        publisher, event_type, payload, message_id = heard.get(timeout=20)
    finally:
        listener.stop()
        listener.wait()
    assert publisher == "mksfilter.node1"
    assert event_type == "mksfilter.console.opened"
    assert message_id == payload["id"] == event.id
    assert payload["attachments"][0]["content"] == event.to_mapping()


def test_a_broker_that_is_down_is_an_error_without_its_password() -> None:
    sink = MessagingSink(conf(), f"rabbit://u:s3cret@127.0.0.1:{free_port()}/", "notifications")
    with pytest.raises(OSError, match="refused") as caught:
        sink.write(made("opened"))
    assert "s3cret" not in str(caught.value)


def test_a_url_that_is_none_is_told_without_its_password() -> None:
    with pytest.raises(ConfigurationError, match="audit_transport_url: no such driver") as caught:
        MessagingSink(conf(), "carrier-pigeon://u:s3cret@roof/", "notifications")
    assert "s3cret" not in str(caught.value)
