"""Every option, once.

Options live in group ``[mksfilter]``, and per vCenter in ``[vcenter.NAME]`` for each name in
``vcenters``. The same options may be written in the paste section, where they win.
"""

from __future__ import annotations

import argparse
import os
import sys

from oslo_config import cfg, types

from mksfilter.tcp import VANISHED_AFTER

__all__ = [
    "AUDIT_OPTS",
    "FILTER_OPTS",
    "GROUP",
    "MANAGEMENT_BIND",
    "NOVA_GROUP",
    "NOVA_OPTS",
    "PROXY_OPTS",
    "SHARED_OPTS",
    "VCENTER_OPTS",
    "list_opts",
]

GROUP = "mksfilter"
MANAGEMENT_BIND = "127.0.0.1:6091"
NOVA_GROUP = "nova"

SHARED_OPTS = [
    cfg.StrOpt(
        "key_repository",
        default="/etc/mksfilter/keys",
        help="Directory of the signing keys, made by 'mksfilter keys setup'. The filter and every "
        "proxy need the same keys. Mode 0700, its files 0600, or a volume of Kubernetes with files "
        "0440; anything more open is refused.",
    ),
    cfg.StrOpt(
        "audience",
        default="mksfilter",
        max_length=255,
        help="Name of this deployment. A token made for one audience is refused by another, so "
        "that two clouds that share a key by mistake do not share consoles.",
    ),
    cfg.IntOpt(
        "clock_skew",
        default=30,
        min=0,
        max=300,
        help="Seconds by which the clocks of the filter and of a proxy may differ, either way.",
    ),
    cfg.ListOpt(
        "vcenters",
        default=[],
        help="Names of the vCenters, each described in a group [vcenter.NAME].",
    ),
    cfg.StrOpt(
        "ticket_at",
        default="connect",
        choices=[
            ("connect", "the proxy takes the console ticket when the browser connects"),
            ("issue", "the filter takes it and seals it into the token, for proxies in a DMZ"),
        ],
        help="Who takes the console ticket from vCenter, and when.",
    ),
    cfg.ListOpt(
        "allowed_networks",
        default=[],
        help="Networks (CIDR) that console hosts may be in. Empty: any but loopback, link-local, "
        "site-local, multicast, reserved, Teredo and metadata addresses, also where an IPv6 "
        "address stands for one. An address of those is allowed only when listed.",
    ),
    cfg.StrOpt(
        "runtime_directory",
        default="",
        help="Directory, of this user alone, where the processes of this node share which log-ins "
        "a vCenter has refused and whether it answers. Empty: what systemd made "
        "(RuntimeDirectory=), /run/mksfilter, or one in the directory for temporary files.",
    ),
]

AUDIT_OPTS = [
    cfg.StrOpt(
        "audit_file",
        default="",
        help="File to which audit events are appended, a line of JSON each; the processes of a "
        "node may share it, and logrotate may rename it. Empty: none.",
    ),
    cfg.StrOpt(
        "audit_syslog",
        default="",
        help="Socket of the syslog service that gets audit events: /dev/log, as a rule. Empty: "
        "none.",
    ),
    cfg.StrOpt(
        "audit_transport_url",
        default="",
        secret=True,
        help="Broker that gets audit events as CADF notifications, as oslo.messaging writes it: "
        "rabbit://USER:PASSWORD@HOST:5672/. Needs the extra 'audit'. Empty: none.",
    ),
    cfg.StrOpt(
        "audit_topic",
        default="notifications",
        help="Topic of those notifications; '.info' is appended.",
    ),
    cfg.BoolOpt(
        "audit_fail_closed",
        default=False,
        help="Give out no link and open no console whose audit event is not kept in all of these "
        "places: answered 503. Without this the console opens, and the event is tried again.",
    ),
    cfg.IntOpt(
        "audit_queue",
        default=10_000,
        min=1,
        help="Audit events that wait in one process while a place does not take them. What comes "
        "then is lost, which is logged and counted.",
    ),
]

FILTER_OPTS = [
    cfg.ListOpt(
        "vsphere_hosts",
        default=[],
        help="Names of nova-compute hosts whose instances are on vSphere although their node is "
        "not named as Nova's VMware driver names it (CLUSTER.VCENTER-UUID); '*': all hosts. A "
        "console request for an instance on any other host is left to Nova.",
    ),
    cfg.ListOpt(
        "also_answer",
        item_type=types.String(choices=["novnc"]),
        default=[],
        help="Further console types that are answered with a WebMKS console for instances on "
        "vSphere: novnc, which most clients ask for by default. Elsewhere, and when empty, Nova "
        "answers them.",
    ),
    cfg.StrOpt(
        "identity",
        default="keystone",
        choices=[
            ("keystone", "only a request that keystonemiddleware's auth_token has confirmed"),
            (
                "trusted-headers",
                "the headers X-User-Id, X-Project-Id and X-Roles of any request; safe only where "
                "no client can send them past what authenticates",
            ),
        ],
        help="What the filter believes about who asks, in pipelines without Nova.",
    ),
    cfg.StrOpt(
        "webmks_proxy_base_url",
        default="",
        help="URL of the console page as browsers see it, for example "
        "https://console.example.com/. '?token=...' is appended, or '&token=...' where it has a "
        "query. '{vcenter}' in it stands for the vCenter that has the instance: the NAME of the "
        "[vcenter.NAME] with its instance_uuid, else that UUID. The proxy reads from it which path "
        "prefix a load balancer leaves on requests, and takes its origin for the page's own, "
        "whatever the Host header says. Empty: Nova's [mks] mksproxy_base_url.",
    ),
    cfg.IntOpt(
        "token_ttl",
        default=600,
        min=10,
        max=86400,
        help="Seconds for which a console URL can be opened.",
    ),
    cfg.IntOpt(
        "session_lifetime",
        default=43200,
        min=0,
        help="Seconds after the request at which a session ends whatever happens, reconnects "
        "included. 0: sessions never end by themselves, and what is revoked stays on the "
        "revocation list for ever.",
    ),
    cfg.StrOpt(
        "view_role_policy",
        default="mksfilter:view-console",
        help="Name of the policy rule under which a caller who may not have a full console gets "
        "a view-only one. The rule's own default is nobody.",
    ),
    cfg.StrOpt(
        "policy_file",
        default="",
        help="Policy file (YAML) for pipelines without Nova. Inside nova-api Nova's own is used.",
    ),
    cfg.FloatOpt(
        "ticket_timeout",
        default=10.0,
        min=0.1,
        help="Seconds within which vCenter must have given a ticket where ticket_at = issue, in "
        "all; then the request is answered 503.",
    ),
    cfg.IntOpt(
        "tickets_at_once",
        default=4,
        min=1,
        help="Tickets in the making in one process where ticket_at = issue; a further request is "
        "answered 503 at once. Keep it below the threads that the API has, so that a vCenter that "
        "hangs does not stop the API.",
    ),
    cfg.BoolOpt(
        "start_without_keys",
        default=False,
        help="Start although the key repository is missing, or open to others. Console requests "
        "are then answered 503 until it is in order, and the log has an ERROR.",
    ),
]

PROXY_OPTS = [
    cfg.ListOpt(
        "allowed_origins",
        default=[],
        help="Origins (scheme://host[:port]) that may open consoles beside the proxy's own, for "
        "example the dashboard's where the page is not served by this proxy.",
    ),
    cfg.ListOpt(
        "frame_ancestors",
        default=[],
        help="Origins that may show the console page in a frame, for example Horizon's. "
        "'self' is written without quotes. Empty: none.",
    ),
    cfg.StrOpt(
        "console_client",
        default="novnc",
        choices=[
            ("novnc", "noVNC, which comes with the page"),
            ("wmks", "VMware's HTML Console SDK, which the site puts into wmks_dir"),
        ],
        help="What shows consoles in the page.",
    ),
    cfg.StrOpt(
        "wmks_dir",
        default="",
        help="With console_client = wmks: directory with wmks.min.js, jQuery and jQuery UI "
        "(jquery.min.js, jquery-ui.min.js, or with a version in their names) and the SDK's css and "
        "img. What is served of it is read at the start.",
    ),
    cfg.IntOpt(
        "hsts_max_age",
        default=0,
        min=0,
        help="Seconds for which a browser that has seen the page over HTTPS uses nothing else for "
        "this host name (Strict-Transport-Security). It holds for every port and service of that "
        "name, so that an HTTP service beside this one becomes unreachable. 0: off.",
    ),
    cfg.ListOpt(
        "trusted_proxies",
        default=[],
        help="Networks (CIDR) of load balancers whose X-Forwarded-For, X-Forwarded-Proto and "
        "X-Forwarded-Host are believed. Everyone else's are ignored.",
    ),
    cfg.BoolOpt(
        "proxy_protocol",
        default=False,
        help="Connections from trusted_proxies start with a PROXY protocol header (version 1 or "
        "2), as load balancers in TCP mode can send it. From anybody else it is refused.",
    ),
    cfg.StrOpt(
        "replay_cache",
        default="",
        secret=True,
        help="Makes each token good for one connection: memcached://HOST:PORT[,HOST:PORT], "
        "redis://HOST:PORT/DB, or 'local' (once per worker process). Empty: a token may be used "
        "until it expires.",
    ),
    cfg.BoolOpt(
        "replay_cache_fail_open",
        default=False,
        help="Accept tokens while the replay cache is down. They may then be used twice.",
    ),
    cfg.BoolOpt(
        "end_sessions_of_removed_keys",
        default=False,
        help="When a signing key vanishes otherwise than by rotation, since it has leaked, end the "
        "sessions that its tokens have opened. Without this they get no token to reconnect with.",
    ),
    cfg.BoolOpt(
        "resume_asks_nova",
        default=False,
        help="At each reconnect ask Nova whether the instance is still there and of the same "
        "project; needs the credentials of [nova]. While Nova does not answer, nobody reconnects: "
        "pages go on trying for about a minute.",
    ),
    cfg.IntOpt(
        "idle_timeout",
        default=0,
        min=0,
        help="Seconds without a byte from the browser after which a session ends; 0: never.",
    ),
    cfg.FloatOpt(
        "handshake_timeout",
        default=10.0,
        min=0.1,
        help="Seconds within which a client must have sent its whole request.",
    ),
    cfg.FloatOpt(
        "connect_timeout",
        default=10.0,
        min=0.1,
        help="Seconds for name look-up, TCP, TLS and the WebSocket handshake with a console host.",
    ),
    cfg.FloatOpt(
        "stall_timeout",
        default=60.0,
        min=1.0,
        help="Seconds for which a peer may refuse to read before its session ends.",
    ),
    cfg.IntOpt(
        "tcp_user_timeout",
        default=VANISHED_AFTER,
        min=0,
        max=3600,
        help="Seconds without an acknowledgement (TCP) after which a console host is taken for "
        "gone, as after a power cut; the page then looks for the machine elsewhere. A browser has "
        "stall_timeout where that is longer. 0: the kernel's own times, hours.",
    ),
    cfg.ListOpt(
        "tls_groups",
        default=[],
        help="Named groups (RFC 8446 section 4.2.7) that console hosts are offered for the key "
        "exchange of TLS, and no others, in OpenSSL's names: prime256v1 (P-256), secp384r1, from "
        "Python 3.11 on X25519; before 3.15 one of them. DEFAULT: OpenSSL's own list. Empty: from "
        "OpenSSL 3.5 on prime256v1, and the list for a host that refuses it; with earlier ones the "
        "list.",
    ),
    cfg.IntOpt(
        "ping_interval",
        default=30,
        min=0,
        help="Seconds between WebSocket pings to the browser, which keep load balancers from "
        "closing idle consoles and find dead clients; 0: none.",
    ),
    cfg.IntOpt(
        "upstream_ping_interval",
        default=0,
        min=0,
        help="The same towards the console host. ESXi's answer to pings is not documented; off.",
    ),
    cfg.IntOpt(
        "max_sessions", default=5000, min=1, help="Sessions that one worker process carries."
    ),
    cfg.IntOpt(
        "max_sessions_per_instance",
        default=10,
        min=0,
        help="Sessions of one instance in one worker process; 0: no limit.",
    ),
    cfg.IntOpt(
        "max_sessions_per_user",
        default=100,
        min=0,
        help="Sessions of one user in one worker process; 0: no limit.",
    ),
    cfg.IntOpt(
        "max_openings_per_user",
        default=16,
        min=0,
        help="Consoles that one user may be opening at the same time in one worker process. "
        "Further ones wait for their turn; of other users' they delay each by one turn. 0: no "
        "limit.",
    ),
    cfg.IntOpt(
        "max_openings_per_address",
        default=64,
        min=0,
        help="The same for one client address (IPv6: for its /64). Behind a load balancer set "
        "trusted_proxies too.",
    ),
    cfg.FloatOpt(
        "connection_rate",
        default=20.0,
        min=0.0,
        help="New sessions per second from one client address (IPv6: from its /64), averaged; "
        "bursts of ten times that pass. With tokens of Nova's own, which cost a question to Nova, "
        "a quarter of it. 0: no limit. Behind a load balancer set trusted_proxies too.",
    ),
    cfg.StrOpt(
        "take_over",
        default="refuse",
        choices=[
            ("refuse", "a machine at its console limit refuses the next one"),
            ("drop", "vCenter is asked to end the oldest console of that machine first"),
        ],
        help="What happens when a machine allows no further console (vSphere 7.0.1 and later). "
        "Only a new link takes over, and a user who presses the page's button for it; a page that "
        "comes back by itself does not.",
    ),
    cfg.StrOpt(
        "management_bind",
        default=MANAGEMENT_BIND,
        help="HOST:PORT of a listener of its own, without TLS, for /livez, /readyz and /metrics, "
        "one for all workers of a node. Where probes come from other machines write this node's "
        "internal address. Port 0: a free one, which the log names. Empty: none.",
    ),
    cfg.ListOpt(
        "metrics_networks",
        default=["127.0.0.0/8", "::1/128"],
        help="Networks (CIDR) that may read /metrics at management_bind. For everyone else there "
        "is no such page.",
    ),
    cfg.StrOpt(
        "healthz_disable_file",
        default="",
        help="While this file exists /healthz and /readyz answer 503, so that load balancers send "
        "no new sessions here; those that are open stay.",
    ),
    cfg.FloatOpt(
        "drain_time",
        default=60.0,
        min=0.0,
        help="Seconds for which a node that is stopped, or a worker that a reload replaces, keeps "
        "the sessions of clients that cannot come back by themselves. Our page's move to another "
        "node meanwhile, within 4 seconds or ten a second from each worker. Whatever stops the "
        "node (TimeoutStopSec, terminationGracePeriodSeconds) has to wait for longer.",
    ),
    cfg.StrOpt(
        "log_level",
        default="INFO",
        choices=["DEBUG", "INFO", "WARNING", "ERROR"],
        ignore_case=True,
        help="What the proxy logs.",
    ),
    cfg.StrOpt(
        "log_format",
        default="text",
        choices=[
            ("text", "[time] [pid] [LEVEL] logger: event=NAME key=value ..."),
            ("json", "an object a line, with the names of oslo.log's JSONFormatter"),
        ],
        help="How the proxy's lines look, gunicorn's own among them.",
    ),
]

VCENTER_OPTS = [
    cfg.StrOpt("host", help="Host name or address of the vCenter (or of a single ESXi host)."),
    cfg.PortOpt("port", default=443, help="HTTPS port."),
    cfg.StrOpt(
        "username", help="User with System.View and VirtualMachine.Interact.ConsoleInteract."
    ),
    cfg.StrOpt(
        "password",
        secret=True,
        help="Password, with each '$' written '$$'. Better: password_file.",
    ),
    cfg.StrOpt(
        "password_file",
        help="File that holds the password; mode 0600, or 0440 in a volume of Kubernetes. It is "
        "read again before each log-in.",
    ),
    cfg.IntOpt(
        "lockout_window",
        default=180,
        min=1,
        max=86400,
        help="Seconds in which vCenter counts refused log-ins before it locks the account (SSO's "
        "lockout policy; 180 by default). All processes of this node together never have more than "
        "two refused in it.",
    ),
    cfg.StrOpt(
        "ca_file",
        help="CA certificates (PEM) that vouch for the vCenter and its hosts. Read again when the "
        "file has changed.",
    ),
    cfg.StrOpt(
        "thumbprint",
        help="SHA-256 (or, for older ones, SHA-1) digest of the vCenter's certificate in hex. "
        "Takes the place of CA verification for the vCenter itself.",
    ),
    cfg.BoolOpt(
        "insecure",
        default=False,
        help="Do not verify certificates at all. Anybody on the way can then read the vCenter "
        "password and every console.",
    ),
    cfg.StrOpt(
        "backend",
        default="webmks",
        help="Kind of console: webmks (API 6.0 and later), vcenter (5.5 console proxy), mks "
        "(authd, port 902), auto (by the API version), or the name of an installed entry point "
        "of mksfilter.backends.",
    ),
    cfg.IntOpt(
        "pool_size", default=8, min=1, max=256, help="Calls in flight to this vCenter per process."
    ),
    cfg.FloatOpt("timeout", default=10.0, min=0.1, help="Seconds for one request to this vCenter."),
    cfg.StrOpt(
        "instance_uuid",
        regex=r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
        help="The vCenter's about.instanceUuid. Nova's VMware driver names its nodes by it "
        "(CLUSTER.UUID), and so the filter tells this vCenter from others.",
    ),
    cfg.StrOpt(
        "webmks_proxy_base_url",
        help="URL of the console page near this vCenter, as browsers see it. Needs instance_uuid. "
        "Empty: the one of [mksfilter].",
    ),
    cfg.StrOpt(
        "console_host",
        help="Name or address to use instead of the one a ticket names, where that cannot be "
        "reached from here. With {host} in it, short names are completed: "
        "{host}.esx.example.com. Empty: the ticket's, else the vCenter's.",
    ),
    cfg.PortOpt(
        "console_port",
        help="Port to use instead of the one a ticket names, or of the usual one of the vCenter's "
        "console proxy (5.5: 7343; 6.0: 9443). Empty: theirs.",
    ),
]

# Beside keystoneauth's own (auth_type, auth_url, username, ...), which other services' [nova] have.
NOVA_OPTS = [
    cfg.StrOpt(
        "ticket",
        default="own",
        choices=[
            ("own", "the proxy takes a ticket of its own by the instance's UUID"),
            ("issued", "it uses the ticket that nova-compute was given: of authd, or of webmks"),
        ],
        help="Which console ticket a token of Nova's own [mks] consoles leads to.",
    ),
    cfg.StrOpt(
        "console_ca_file",
        help="With ticket = issued: CA certificates (PEM) that vouch for the console hosts of "
        "webmks tickets (internal_access_path /ticket/...), which come without a thumbprint. "
        "Empty: the system's CAs.",
    ),
    cfg.BoolOpt(
        "console_insecure",
        default=False,
        help="Do not verify the certificates of those console hosts at all. Anybody on the way "
        "can then read and control every console.",
    ),
]


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """For ``oslo-config-generator`` and ``-validator`` (entry point ``oslo.config.opts``)."""
    return [
        (GROUP, [*SHARED_OPTS, *AUDIT_OPTS, *FILTER_OPTS, *PROXY_OPTS]),
        *((group, list(VCENTER_OPTS)) for group in ("vcenter.NAME", *_groups_to_validate())),
        (NOVA_GROUP, [*NOVA_OPTS, *_keystoneauth_opts()]),
    ]


def _groups_to_validate() -> list[str]:
    """The ``[vcenter.NAME]`` groups of the file that ``oslo-config-validator`` is to look at.

    It has no notion of groups that an option names, so that its file is looked at here too.
    """
    if not os.path.basename(sys.argv[0]).startswith("oslo-config-validator"):
        return []
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--input-file", default="")
    file = parser.parse_known_args(sys.argv[1:])[0].input_file
    sections: dict[str, object] = {}
    try:
        cfg.ConfigParser(file, sections).parse()
    except (cfg.Error, OSError, UnicodeDecodeError):
        return []  # the validator tells
    return [name for name in sections if name.startswith("vcenter.")]


def _keystoneauth_opts() -> list[cfg.Opt]:
    try:
        from keystoneauth1 import loading
    except ImportError:
        return []
    return [
        *loading.get_auth_common_conf_options(),
        *loading.get_auth_plugin_conf_options("password"),
        *loading.get_session_conf_options(),
        *loading.get_adapter_conf_options(include_deprecated=False),
    ]
