// A sign for each kind of end, drawn with lines in the colour of the text.

// Paths on a square of 24.
const SIGNS = {
    off: "M12 3v9M7.500 6.500a7.500 7.500 0 1 0 9 0",
    pause: "M8.500 5v14M15.500 5v14",
    network: "M2 9.500a14 14 0 0 1 20 0M5.500 13a9 9 0 0 1 13 0M9 16.500a4 4 0 0 1 6 0M12 20h.01M4 3l16 18",
    link: "M10 14l4-4M8 11l-2.500 2.500a3.500 3.500 0 0 0 5 5L13 16M16 13l2.500-2.500a3.500 3.500 0 0 0-5-5L11 8",
    time: "M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18M12 7v5l3.500 2",
    full: "M4 20V10M9.500 20V4M15 20v-8M20 20V7",
    lock: "M6 11h12v9H6zM8.500 11V8a3.500 3.500 0 0 1 7 0v3",
    host: "M4 4h16v6H4zM4 14h16v6H4zM8 7h.01M8 17h.01",
    tabs: "M4 7h11v11H4zM9 7V4h11v11h-5",
    left: "M9 4H5v16h4M14 8l4 4-4 4M18 12H9",
    question: "M8.500 9a3.500 3.500 0 1 1 5.200 3c-1.100.700-1.700 1.400-1.700 2.800M12 18.500h.01",
    broken: "M12 4L2.500 20h19zM12 10v5M12 17.500h.01",
};

// By the keys of the catalogue and the reasons of the proxy.
const KINDS = {
    off: "powered-off",
    pause: "suspended",
    question: "question-pending",
    network:
        "offline unreachable silent timed-out blocked intercepted lost client-lost " +
        "slow-reader",
    link:
        "no-link not-accepted other-server expired refused other-address denied token-expired " +
        "token-without-ticket instance-not-found",
    time: "idle-timeout lifetime-reached",
    full:
        "takes-nobody server-busy limit-reached node-session-limit instance-session-limit " +
        "user-session-limit opening-limit rate-limit connection-limit overload vcenter-busy",
    lock: "revoked access-withdrawn no-permission password-wanted machine-locked",
    tabs: "other-tab",
    host:
        "failing-over machine-inaccessible host-disconnected machine-unresponsive host-unreachable host-unresolvable upstream-lost " +
        "upstream-refused ticket-refused vcenter-unreachable draining server-draining worker-lost " +
        "console-refused console-refused-because",
};
const KIND = new Map(
    Object.entries(KINDS).flatMap(([kind, names]) => names.split(" ").map((name) => [name, kind])),
);

/** Show in *sign*, an SVG element, what kind of end *ending* is; null: none. */
export function showSign(sign, ending) {
    sign.toggleAttribute("hidden", !ending);
    document.body.toggleAttribute("data-sign", Boolean(ending));
    if (!ending) return;
    const { key, reason, byUser } = ending;
    const kind = byUser ? "left" : (KIND.get(key ?? reason) ?? "broken");
    sign.dataset.kind = kind;
    sign.firstElementChild.setAttribute("d", SIGNS[kind]);
}
