"""Every error mksfilter raises on purpose, and what the outside is told about it.

One tree; each class of a console request owns its HTTP status, its WebSocket close code, a slug for
logs, metrics and the control channel, the words a console user may read, and what the console page
does next::

    MksFilterError
    +-- ConfigurationError           what an operator wrote is wrong (exit code 2)
    |   +-- KeyRepositoryError
    |       +-- RevocationListError
    +-- OperationError               a command could not do its work (exit code 1)
    |   +-- simulator: SimulatorError, ViewerError
    +-- api.faults.Fault             the console request to the API is answered with an error
    +-- ConsoleError                 one console request could not be served
        +-- DrainingError
        +-- RequestError             not a request that an application may see
        |   +-- MethodNotAllowed, RequestLineTooLong, HeadTooLarge, HTTPVersionUnsupported
        +-- Overloaded
        +-- ConnectionDropped        closed without an answer
        |   +-- ClientGone, RequestTimeout, AnswerNotRead, Evicted, ProxyHeaderError
        +-- HandshakeError           the request is not a WebSocket request we accept
        |   +-- UpgradeRequired
        |   |   +-- UpgradeOverHTTP10
        |   +-- EarlyData
        +-- AccessDenied             who asks may not have it; outside, all of these look alike
        |   +-- OriginDenied
        |   +-- TokenError
        |       +-- TokenMissing, TokenMalformed, TokenKeyUnknown, TokenSignatureInvalid,
        |           TokenExpired, TokenNotYetValid, TokenAudienceMismatch, TokenUseMismatch,
        |           TokenReplayed, TokenProofMissing, TokenProofInvalid, TokenRevoked
        +-- KeysUnavailable          no token can be verified at the moment
        +-- ReplayCacheUnavailable
        +-- AuditUnavailable         the audit event cannot be kept, and has to be
        +-- TokenServiceUnavailable  Nova, asked about a token of its own, did not answer
        +-- AccessWithdrawn          Nova, asked again, says that the session's reason is gone
        +-- LimitReached
        |   +-- SessionLimitReached, InstanceLimitReached, UserLimitReached,
        |       OpeningLimitReached, RateLimitReached
        +-- BackendError             vSphere, or the way to it
        |   +-- InstanceNotFound, InstancePoweredOff, InstanceSuspended, MachineAsks,
        |   |   MachineFailingOver, MachineInaccessible, MachineLocked
        |   +-- ConsoleNotPermitted, ConnectionLimitReached, HostDisconnected, TicketRefused,
        |   |   TicketMissing, MachineUnresponsive
        |   +-- VCenterUnreachable, VCenterLoginRefused, VCenterBusy
        |   |   +-- AnswerUnreadable
        |   +-- CertificateMismatch
        |   +-- HostUnresolvable, HostUnreachable, EndpointForbidden, UpstreamRefused
        |       +-- NoCommonGroup
        +-- SessionEnded             an established session that has to stop
            +-- ClientViolation
            |   +-- RFBViolation
            |       +-- MessageTooBig
            +-- ClientLost, UpstreamViolation, UpstreamLost, IdleTimeout,
                LifetimeReached, SessionRevoked, SlowReader, ServerDraining, WorkerLost, RelayFailed

The text given to the constructor is for the operator: one line that names the thing and the
remedy. ``public`` is for the user and never holds a host name, a ticket or a token. The page
``docs/errors.md`` has a row for each slug; ``tools/reasons`` gives the console page the words.
"""

from __future__ import annotations

from typing import ClassVar, Literal

__all__ = [
    "AccessDenied",
    "AccessWithdrawn",
    "AnswerNotRead",
    "AnswerUnreadable",
    "AuditUnavailable",
    "BackendError",
    "CertificateMismatch",
    "ClientGone",
    "ClientLost",
    "ClientViolation",
    "ConfigurationError",
    "ConnectionDropped",
    "ConnectionLimitReached",
    "ConsoleError",
    "ConsoleNotPermitted",
    "DrainingError",
    "EarlyData",
    "EndpointForbidden",
    "Evicted",
    "HTTPVersionUnsupported",
    "HandshakeError",
    "HeadTooLarge",
    "HostDisconnected",
    "HostUnreachable",
    "HostUnresolvable",
    "IdleTimeout",
    "InstanceLimitReached",
    "InstanceNotFound",
    "InstancePoweredOff",
    "InstanceSuspended",
    "KeyRepositoryError",
    "KeysUnavailable",
    "LifetimeReached",
    "LimitReached",
    "MachineAsks",
    "MachineFailingOver",
    "MachineInaccessible",
    "MachineLocked",
    "MachineUnresponsive",
    "MessageTooBig",
    "MethodNotAllowed",
    "MksFilterError",
    "NoCommonGroup",
    "OpeningLimitReached",
    "OperationError",
    "OriginDenied",
    "Overloaded",
    "ProxyHeaderError",
    "RFBViolation",
    "RateLimitReached",
    "RelayFailed",
    "ReplayCacheUnavailable",
    "RequestError",
    "RequestLineTooLong",
    "RequestTimeout",
    "Retry",
    "RevocationListError",
    "ServerDraining",
    "SessionEnded",
    "SessionLimitReached",
    "SessionRevoked",
    "SlowReader",
    "TicketMissing",
    "TicketRefused",
    "TokenAudienceMismatch",
    "TokenError",
    "TokenExpired",
    "TokenKeyUnknown",
    "TokenMalformed",
    "TokenMissing",
    "TokenNotYetValid",
    "TokenProofInvalid",
    "TokenProofMissing",
    "TokenReplayed",
    "TokenRevoked",
    "TokenServiceUnavailable",
    "TokenSignatureInvalid",
    "TokenUseMismatch",
    "UpgradeOverHTTP10",
    "UpgradeRequired",
    "UpstreamLost",
    "UpstreamRefused",
    "UpstreamViolation",
    "UserLimitReached",
    "VCenterBusy",
    "VCenterLoginRefused",
    "VCenterUnreachable",
    "WorkerLost",
]


Retry = Literal["automatic", "reopen", "wait", "offer", "never"]


class MksFilterError(Exception):
    """Base of every error raised on purpose; ``str()`` is one line for the operator."""

    exit_code: ClassVar[int] = 1


class ConfigurationError(MksFilterError):
    """A configuration value, file or command line that cannot work."""

    exit_code = 2


class KeyRepositoryError(ConfigurationError):
    """The signing keys are missing, unreadable, too open or too weak."""


class RevocationListError(KeyRepositoryError):
    """The revocation list in the key repository cannot be read, or was not signed here."""


class OperationError(MksFilterError):
    """A command was understood but could not be carried out."""


class ConsoleError(MksFilterError):
    """A console request that is not served, or a session that ends.

    :cvar status: HTTP status code before the upgrade.
    :cvar close_code: WebSocket close code after it (RFC 6455 section 7.4, or 4000-4999).
    :cvar reason: stable slug for logs, metrics and the ``mks.v1`` control channel.
    :cvar public: what the user is told, plain text without any secret or host name.
    :cvar retry: what the console page does: ``automatic``: it connects again by itself, since a
        new ticket on another host or node may find the machine again; ``reopen``: so it does when
        a console was there before, and otherwise offers to; ``wait``: it asks again, every second
        or two, until the machine has a console; ``offer``: it shows a button;
        ``never``: nothing that the page holds can open the console again.
    :ivar facts: what the page may say beside the reason: ``limit``, the number that is reached;
        ``seconds``, how long to wait, or how long it was waited; ``machine``, the VM's name;
        ``node``, this node's.
    """

    status: ClassVar[int] = 500
    close_code: ClassVar[int] = 1011
    reason: ClassVar[str] = "internal-error"
    public: ClassVar[str] = "The console could not be opened because of an internal error."
    retry: ClassVar[Retry] = "offer"

    def __init__(self, *details: object, **facts: str | float) -> None:
        """:param details: one line for the operator."""
        super().__init__(*details)
        self.facts = facts


class DrainingError(ConsoleError):
    """This node is being taken out of service and accepts no new sessions."""

    status = 503
    close_code = 1012
    reason = "draining"
    public = "This console server is restarting. Try again in a moment."
    retry = "automatic"


class RequestError(ConsoleError):
    """A request that is not plain HTTP/1.1 (RFC 9112); no application sees it."""

    status = 400
    close_code = 1002
    reason = "bad-request"
    public = "The request is not valid."


class MethodNotAllowed(RequestError):
    """A method other than GET and HEAD."""

    status = 405


class RequestLineTooLong(RequestError):
    """The request line is longer than any of ours."""

    status = 414
    public = "This link is too long. Open the console again from where you got it."


class HeadTooLarge(RequestError):
    """More headers, or more bytes of them, than any client of ours sends."""

    status = 431


class HTTPVersionUnsupported(RequestError):
    """Neither HTTP/1.0 nor HTTP/1.1."""

    status = 505


class Overloaded(ConsoleError):
    """All of ``worker_connections`` are at work."""

    status = 503
    close_code = 1013
    reason = "overload"
    public = "This console server is full. Try again in a moment."
    retry = "reopen"


class ConnectionDropped(ConsoleError):
    """A connection that is closed without an answer: nobody is left to read one, or it is not
    worth one."""

    reason = "dropped"
    public = "The connection to the console was lost. Reconnect."


class ClientGone(ConnectionDropped):
    """The client left before its console was there."""

    reason = "client-gone"


class RequestTimeout(ConnectionDropped):
    """The client did not send a whole request within ``handshake_timeout``."""

    reason = "request-timeout"


class AnswerNotRead(ConnectionDropped):
    """The client did not take an answer within 20 seconds."""

    reason = "answer-not-read"


class Evicted(ConnectionDropped):
    """A connection without a request made room for a new one."""

    reason = "evicted"


class ProxyHeaderError(ConnectionDropped):
    """``proxy_protocol`` is on, and a load balancer did not begin with a PROXY header."""

    reason = "bad-proxy-header"


class HandshakeError(ConsoleError):
    """The request is not a valid WebSocket opening handshake (RFC 6455 section 4.2.1)."""

    status = 400
    close_code = 1002
    reason = "bad-handshake"
    public = "The request is not a valid WebSocket request."


class UpgradeRequired(HandshakeError):
    """A WebSocket version other than 13 (RFC 6455 section 4.4), or no Upgrade at all."""

    status = 426
    reason = "upgrade-required"


class UpgradeOverHTTP10(UpgradeRequired):
    """A load balancer has passed a WebSocket request on as HTTP/1.0, in which ``Upgrade`` means
    nothing (RFC 9110 section 7.8). It is what nginx does unless it is told otherwise.

    :cvar hint: the body of the answer, for whoever sets the load balancer up.
    """

    reason = "upgrade-over-old-http"
    hint: ClassVar[str] = (
        "The WebSocket request arrived as HTTP/1.0. Let the load balancer speak HTTP/1.1 to this "
        "proxy and pass Upgrade and Connection on; in nginx: proxy_http_version 1.1; "
        "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;"
    )


class EarlyData(HandshakeError):
    """Bytes followed the request before it was answered (compare CVE-2022-36436)."""

    reason = "early-data"


class AccessDenied(ConsoleError):
    """The outside hears one thing, whatever the cause; the log has the class."""

    status = 403
    close_code = 1008
    reason = "denied"
    public = "This console link is not valid or has expired. Ask for a new one."
    retry = "never"


class OriginDenied(AccessDenied):
    """The Origin header names a site that may not open consoles (CVE-2015-0259)."""

    reason = "origin-denied"


class TokenError(AccessDenied):
    """Base of all reasons why a token is refused."""

    reason = "token-invalid"


class TokenMissing(TokenError):
    """The request carries no token."""

    reason = "token-missing"


class TokenMalformed(TokenError):
    """Not of the form ``mks1.<kid>.<payload>.<mac>`` in its one canonical spelling."""

    reason = "token-malformed"


class TokenKeyUnknown(TokenError):
    """The key that the token names is not in the key repository."""

    reason = "token-key-unknown"


class TokenSignatureInvalid(TokenError):
    """The MAC does not match."""

    reason = "token-signature-invalid"


class TokenExpired(TokenError):
    """The token's ``exp`` or ``max`` has passed."""

    reason = "token-expired"


class TokenNotYetValid(TokenError):
    """The token's ``iat`` lies further in the future than clocks may differ."""

    reason = "token-not-yet-valid"


class TokenAudienceMismatch(TokenError):
    """The token was made for another deployment."""

    reason = "token-audience-mismatch"


class TokenUseMismatch(TokenError):
    """The token is good, but not for this use."""

    reason = "token-use-mismatch"


class TokenReplayed(TokenError):
    """A once-only token came a second time."""

    reason = "token-replayed"


class TokenProofMissing(TokenError):
    """A resume token came without proof that its key is the sender's (RFC 9449)."""

    reason = "token-proof-missing"


class TokenProofInvalid(TokenError):
    """The proof that came with a resume token does not hold (RFC 9449 section 4.3)."""

    reason = "token-proof-invalid"


class TokenRevoked(TokenError):
    """The revocation list names the token's session, instance, user, project or time of issue."""

    reason = "token-revoked"


class KeysUnavailable(ConsoleError):
    """The key repository became unreadable, so that nobody can tell a good token from a bad one."""

    status = 503
    close_code = 1013
    reason = "keys-unavailable"
    public = "The console service cannot check your link at the moment. Try again in a moment."
    retry = "reopen"


class ReplayCacheUnavailable(ConsoleError):
    """Once-only is asked for and the shared memory that guarantees it does not answer."""

    status = 503
    close_code = 1013
    reason = "replay-cache-unavailable"
    public = "The console service cannot check your link at the moment. Try again in a moment."
    retry = "reopen"


class TokenServiceUnavailable(ConsoleError):
    """Nova, asked about one of its own tokens or, at a reconnect, about an instance, is down, slow
    or refuses us."""

    status = 503
    close_code = 1013
    reason = "token-service-unavailable"
    public = "The console service cannot check your link at the moment. Try again in a moment."
    retry = "reopen"


class AccessWithdrawn(ConsoleError):
    """Nova, asked again at a reconnect, has the instance in another project."""

    status = 403
    close_code = 4403
    reason = "access-withdrawn"
    public = "Access to this console was withdrawn."
    retry = "never"


class AuditUnavailable(ConsoleError):
    """``audit_fail_closed``, and the audit event of a console cannot be kept."""

    status = 503
    close_code = 1013
    reason = "audit-unavailable"
    public = "The console service cannot record who uses it at the moment. Try again in a moment."
    retry = "reopen"


class LimitReached(ConsoleError):
    """Base of all limits that are refused before vCenter is asked."""

    status = 503
    close_code = 1013
    reason = "limit-reached"
    public = "Too many consoles are open. Close one and try again."


class SessionLimitReached(LimitReached):
    """This node carries all the sessions it may."""

    reason = "node-session-limit"
    public = "This console server is full. Try again in a moment."
    retry = "reopen"


class InstanceLimitReached(LimitReached):
    """This machine has all the sessions it may have on this node."""

    status = 429
    reason = "instance-session-limit"
    public = "Too many consoles of this machine are open. Close one and try again."
    retry = "reopen"


class UserLimitReached(LimitReached):
    """This user has all the sessions they may have on this node."""

    status = 429
    reason = "user-session-limit"
    public = "You have too many consoles open. Close one and try again."
    retry = "reopen"


class OpeningLimitReached(LimitReached):
    """This user, or this address, has as many consoles being opened as may wait."""

    status = 429
    reason = "opening-limit"
    public = "Many consoles are being opened at the moment. Try again in a moment."
    retry = "reopen"


class RateLimitReached(LimitReached):
    """Too many new sessions from one client address."""

    status = 429
    reason = "rate-limit"
    public = "Too many attempts. Wait a moment and try again."
    retry = "reopen"


class BackendError(ConsoleError):
    """vSphere, or the way to it, did not give us a console."""

    status = 502
    close_code = 1014
    reason = "backend-error"
    public = "The console of this machine could not be opened. Ask your cloud's operator."


class InstanceNotFound(BackendError):
    """No vCenter knows a VM with this instance UUID."""

    status = 404
    close_code = 4404
    reason = "instance-not-found"
    public = "This machine does not exist any more, or is not on vSphere."
    retry = "never"


class InstancePoweredOff(BackendError):
    """A console needs a machine that is running."""

    status = 409
    close_code = 4409
    reason = "powered-off"
    public = "This machine is powered off. Start it, then open its console again."
    retry = "wait"


class InstanceSuspended(BackendError):
    """A console needs a machine that is running."""

    status = 409
    close_code = 4409
    reason = "suspended"
    public = "This machine is suspended. Resume it, then open its console again."
    retry = "wait"


class MachineAsks(BackendError):
    """The VM stands still until somebody answers a question (``runtime.question``)."""

    status = 409
    close_code = 4409
    reason = "question-pending"
    public = "This machine waits for an answer in vCenter. Ask your cloud's operator to give it."
    retry = "wait"

    def __init__(self, detail: str = "", *, question: str = "") -> None:
        """:param question: in words for the machine's user; empty: not known."""
        super().__init__(detail)
        self.question = question


class MachineFailingOver(BackendError):
    """The VM's host has failed, and vSphere HA starts the VM on another one."""

    status = 503
    close_code = 4409
    reason = "failing-over"
    public = "The host of this machine has failed. The machine is being started on another one."
    retry = "wait"


class MachineLocked(BackendError):
    """The VM is encrypted, and its host does not have the key (``runtime.cryptoState``)."""

    status = 423
    close_code = 4423
    reason = "machine-locked"
    public = "This machine is locked: its encryption key is missing. Ask your cloud's operator."


class MachineInaccessible(BackendError):
    """vCenter has the VM in its inventory, and cannot read its files, or no host has it."""

    status = 503
    reason = "machine-inaccessible"
    public = "The storage or the host of this machine cannot be reached. Ask your cloud's operator."
    retry = "reopen"


class ConsoleNotPermitted(BackendError):
    """The proxy's vCenter user lacks ``VirtualMachine.Interact.ConsoleInteract``."""

    reason = "no-permission"


class ConnectionLimitReached(BackendError):
    """``RemoteDisplay.maxConnections`` of the VM is used up (MksConnectionLimitReached)."""

    status = 409
    close_code = 4429
    reason = "connection-limit"
    public = "Another console of this machine is open, and it allows no more. Close that one first."
    retry = "reopen"


class HostDisconnected(BackendError):
    """The VM's host is not connected to its vCenter, or is in maintenance."""

    status = 503
    reason = "host-disconnected"
    public = "The host of this machine is not available at the moment. Try again later."
    retry = "reopen"


class TicketRefused(BackendError):
    """vCenter would not give a ticket, or the console endpoint would not take it."""

    reason = "ticket-refused"
    public = "The console of this machine refused the connection. Try again."
    retry = "reopen"


class TicketMissing(BackendError):
    """The token holds no ticket, and this proxy has no vCenter to ask (``ticket_at = issue``).

    So it is for every reconnection there: the ticket in a token is good for one connection.
    """

    status = 403
    close_code = 1008
    reason = "token-without-ticket"
    public = "This console link was good for one connection. Ask for a new one."
    retry = "never"


class VCenterUnreachable(BackendError):
    """vCenter does not answer within its deadline."""

    status = 504
    reason = "vcenter-unreachable"
    public = "The console service cannot reach this machine's cloud at the moment. Try again later."
    retry = "reopen"


class AnswerUnreadable(VCenterUnreachable):
    """It answers, and not as a vCenter does."""


class MachineUnresponsive(BackendError):
    """vCenter answers, but not what concerns this VM: its host may hang."""

    status = 504
    reason = "machine-unresponsive"
    public = "The host of this machine does not answer at the moment. Try again later."
    retry = "reopen"


class VCenterLoginRefused(BackendError):
    """vCenter does not accept the configured user name and password."""

    reason = "vcenter-login-refused"


class VCenterBusy(BackendError):
    """No place among the calls in flight to this vCenter came free within the deadline."""

    status = 503
    close_code = 1013
    reason = "vcenter-busy"
    public = "Many consoles are being opened at the moment. Try again in a moment."
    retry = "reopen"


class CertificateMismatch(BackendError):
    """The certificate presented is not the one expected, or no CA vouches for it."""

    reason = "certificate-mismatch"


class HostUnresolvable(BackendError):
    """The name of the console host does not resolve."""

    reason = "host-unresolvable"
    retry = "reopen"


class HostUnreachable(BackendError):
    """The console host refuses the connection or does not answer within the deadline."""

    status = 504
    reason = "host-unreachable"
    retry = "reopen"


class EndpointForbidden(BackendError):
    """The ticket points to an address that ``allowed_networks`` does not allow."""

    reason = "endpoint-forbidden"


class UpstreamRefused(BackendError):
    """The console host answered, but not with a console."""

    reason = "upstream-refused"
    public = "The console of this machine refused the connection. Try again."
    retry = "reopen"


class NoCommonGroup(UpstreamRefused):
    """The console host refuses the TLS handshake, as one does that has none of our groups."""


class SessionEnded(ConsoleError):
    """An established session ends; raised or passed as a value, never answered over HTTP."""

    close_code = 1000
    reason = "ended"
    public = "The console session has ended."


class ClientViolation(SessionEnded):
    """The browser's side broke RFC 6455."""

    close_code = 1002
    reason = "client-protocol-error"
    public = "The browser sent something that is not allowed. Reconnect."


class RFBViolation(ClientViolation):
    """The client says what RFB (RFC 6143), or a viewer without rights, does not say."""

    close_code = 1008


class MessageTooBig(RFBViolation):
    """A message is longer than any that a console client sends (RFC 6455 section 7.4.1)."""

    close_code = 1009


class ClientLost(SessionEnded):
    """The browser's side dropped the connection, or does not answer pings."""

    close_code = 1001
    reason = "client-lost"
    public = "The connection to the console was lost. Reconnect."


class UpstreamViolation(SessionEnded):
    """The console host broke RFC 6455, TLS or RFB."""

    close_code = 1014
    reason = "upstream-protocol-error"
    public = "The machine's console sent something that is not allowed."


class UpstreamLost(SessionEnded):
    """The console host dropped the connection: power-off, vMotion, host failure."""

    close_code = 1011
    reason = "upstream-lost"
    public = "The machine's console closed the connection. It may have been switched off or moved."
    retry = "automatic"


class IdleTimeout(SessionEnded):
    """Neither side sent anything for ``idle_timeout`` seconds."""

    close_code = 4408
    reason = "idle-timeout"
    public = "The console was closed because it was not used."


class LifetimeReached(SessionEnded):
    """The session's ``max`` has passed."""

    close_code = 4410
    reason = "lifetime-reached"
    public = "The console session has reached its time limit. Ask for a new one."
    retry = "never"


class SessionRevoked(SessionEnded):
    """The revocation list came to name this session (``mksfilter revoke``)."""

    close_code = 4403
    reason = "revoked"
    public = "Access to this console was withdrawn."
    retry = "never"


class SlowReader(SessionEnded):
    """A peer stopped reading for longer than allowed."""

    close_code = 1013
    reason = "slow-reader"
    public = "The connection was too slow for the console. Reconnect."
    retry = "automatic"


class ServerDraining(SessionEnded):
    """This node is being taken out of service (RFC 6455's 1012, service restart)."""

    close_code = 1012
    reason = "server-draining"
    public = "The console server is restarting."
    retry = "automatic"


class WorkerLost(SessionEnded):
    """The process that carried it was killed, or died; its master tells."""

    close_code = 1011
    reason = "worker-lost"
    public = "The console server failed. Reconnect."
    retry = "automatic"


class RelayFailed(SessionEnded):
    """A fault of our own; the log has its traceback."""

    close_code = 1011
    reason = "internal-error"
    public = "The console ended because of an internal error. Reconnect."
