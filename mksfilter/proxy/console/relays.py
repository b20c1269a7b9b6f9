"""Relays by the settings of the proxy."""

from __future__ import annotations

from collections.abc import Callable

from mksfilter.config import ProxySettings
from mksfilter.exceptions import SessionEnded
from mksfilter.proxy.console import control_channel
from mksfilter.proxy.relay.driver import Relay, RelayOptions
from mksfilter.proxy.relay.transport import Transport, Upstream

__all__ = ["Relays"]


class Relays:
    """Makes relays; sessions of one kind share their options."""

    def __init__(self, settings: ProxySettings) -> None:
        self._settings = settings
        self._options: dict[tuple[bool, bool, str], RelayOptions] = {}

    def __call__(
        self,
        client: Transport,
        upstream: Upstream,
        *,
        view_only: bool,
        control: bool,
        rfb_handshake: str,
        lifetime: float | None,
        on_end: Callable[[object, SessionEnded], None],
        on_first_byte: Callable[[], object],
        on_heard: Callable[[], object] | None = None,
    ) -> Relay:
        """See :class:`mksfilter.proxy.console.session.RelayFactory`."""
        kind = (view_only, control, rfb_handshake)
        options = self._options.get(kind)
        if options is None:
            options = self._options[kind] = self._make_options(*kind)
        settings = self._settings
        client.watch_peer(settings.tcp_user_timeout, unread=settings.stall_timeout)
        return Relay(
            client,
            upstream,
            options=options,
            on_end=on_end,
            lifetime=lifetime,
            on_first_byte=on_first_byte,
            on_heard=on_heard,
        )

    def _make_options(self, view_only: bool, control: bool, rfb_handshake: str) -> RelayOptions:
        settings = self._settings
        return RelayOptions(
            view_only=view_only,
            end_message=control_channel.end if control else None,
            answer=control_channel.answer,
            rfb_handshake=rfb_handshake,
            stall_timeout=settings.stall_timeout,
            idle_timeout=settings.idle_timeout,
            ping_interval=settings.ping_interval,
            upstream_ping_interval=settings.upstream_ping_interval,
        )
