// English: what is shown where another language lacks something. The words for the reasons of an
// end are in reasons.json, made of mksfilter/exceptions.py; other languages have `reason.*` here.
//
// A text is a string, or one for each plural of the number `by` (Intl.PluralRules). {fact} is
// replaced; numbers are written as the language writes them.

export default {
    direction: "ltr",

    console: "Console",
    "page-title": "{name} - Console",
    connecting: "Connecting to the console",
    "still-connecting": "This takes longer than usual. The host of the machine may be busy.",
    reconnecting: "Connection lost",
    moving: "The console server is restarting",
    asleep: "This machine has no console now. I open it when it has.",
    "asleep-powered-off": "Powered off. I open it when it starts.",
    "asleep-suspended": "Suspended. I open it when it resumes.",
    trying: "Trying now",
    "trying-again-in": "Trying again in {seconds} s",
    ended: "The console has ended",
    disconnected: "You disconnected from the console",
    elsewhere: "This console is open elsewhere",
    "other-tab": "You have opened it in another tab or window of this browser.",
    "take-back": "Take it back here",
    "not-opened": "The console could not be opened",
    "no-link": "This console link has been used up",
    "ask-for-new": "Open the console again from where you got this link.",
    broken: "The console page stopped working",

    retry: "Reconnect",
    "retry-now": "Try now",
    "try-again": "Try again",
    stop: "Stop",
    cancel: "Cancel",

    "tool-bar": "Tool bar",
    tools: "Console tools",
    keys: "Keys",
    "send-keys": "Send keys",
    "type-text": "Type text",
    fit: "Fit window",
    "move-to-top": "Move to the top",
    "move-to-bottom": "Move to the bottom",
    screenshot: "Screenshot",
    "full-screen": "Full screen",
    disconnect: "Disconnect",
    "view-only": "View only",
    hint: "Ctrl + Alt + Shift opens the tool bar",
    "hint-in-bar": "Arrow keys move, Esc returns to the machine",
    "no-keys": "View only: keys do not reach the machine",
    "ends-in": "Ends in {time}",
    screen: "Screen of {name}. Keys go to the machine. Ctrl + Alt + Shift opens the tool bar.",
    "screen-view-only": "Screen of {name}, view only",

    "no-answer-for": "No answer for {seconds} s",
    "check-network": "The picture may be old. Check your network.",
    milliseconds: "{number} ms",
    "quality-good": "Good connection: time to the console server and back",
    "quality-fair": "Slow connection: time to the console server and back",
    "quality-poor": "Poor connection: time to the console server and back",

    unreachable: "The console server cannot be reached. Check your network.",
    "not-accepted":
        "The console server did not accept this link. It may have expired: open the console again " +
        "from where you got it. If that does not help, something on the way may block WebSockets.",
    offline: "The network is gone.",
    "takes-nobody": "The console server takes nobody at the moment.",
    expired: "This console link has expired. Open the console again from where you got it.",
    refused:
        "The console server does not accept this link any more: it was used already, or access was withdrawn. Open the console again from where you got it.",
    blocked:
        "Something between this browser and the console server blocks WebSockets: a proxy, a firewall or an extension. The link itself is good. Try another network, or ask whoever runs this one.",
    "other-address":
        "This console server takes no consoles from pages at {origin}. Ask your cloud's operator to see its allowed_origins.",
    intercepted:
        "Something on the way answered in the console server's place. Do you have to log in to this network first?",
    "other-server":
        "This link names a path that is not a console's on this server. Do not use it: open the " +
        "console again from the dashboard.",
    silent: "The console server did not answer any more.",
    "timed-out": "The console did not answer in time.",
    "password-wanted": "The machine's console asks for a password, which this page cannot give.",
    "screen-broken": "The machine's console sent a picture that this page does not understand.",
    "console-refused": "The machine's console refused the connection.",
    "console-refused-because": "The machine's console refused the connection: {reason}",
    "closed-by-console": "The machine's console closed the connection.",
    "closed-by-server": "The console server closed the connection.",
    "closed-by-host": "The host of the machine closed the connection.",
    "protocol-error": "The connection was closed because of a protocol error.",
    "server-busy": "The console server is busy. Try again in a moment.",
    lost: "The connection to the console was lost.",

    "type-on-machine": "Type text on the machine",
    "text-to-type": "Text to type",
    keyboard: "Keyboard of the machine",
    system: "System",
    "system.linux": "Linux",
    "system.windows": "Windows",
    hide: "Hide it, as a password",
    slowly: "Slowly, for boot menus",
    type: "Type it",
    "type-without": "Type without them",
    "type-rest": "Type the rest",
    typed: {
        by: "total",
        one: "{done} of {total} character typed",
        other: "{done} of {total} characters typed",
    },
    "missing-named": "Not on this keyboard, left out: {characters}",
    "missing-counted": {
        by: "count",
        one: "Not on this keyboard, left out: {count} of the characters",
        other: "Not on this keyboard, left out: {count} of the characters",
    },
    "untaken-named": "May not arrive, as this host does not take their key: {characters}",
    "untaken-counted": {
        by: "count",
        one: "May not arrive, as this host does not take its key: {count} of the characters",
        other: "May not arrive, as this host does not take their key: {count} of the characters",
    },
    "windows-named": "Typed otherwise on Windows (choose it if the machine runs it): {characters}",
    "windows-counted": {
        by: "count",
        one: "Typed otherwise on Windows (choose it if the machine runs it): {count} of the characters",
        other: "Typed otherwise on Windows (choose it if the machine runs it): {count} of the characters",
    },
    "typing-stopped": "Stopped: {typed}. The rest is still here.",
    "typing-cut": "The connection was lost: {typed}. The rest is still here.",
    "typing-cut-uncertain":
        "The connection was lost: {typed}. Number {number} may have arrived: look at the screen. " +
        "The rest is still here.",
    "typing-silent": "The host no longer answers: {typed}. The rest is still here.",
    "typing-silent-uncertain":
        "The host no longer answers: {typed}. Number {number} may have arrived: look at the " +
        "screen. The rest is still here.",

    "key.ctrl": "Ctrl",
    "key.alt": "Alt",
    "key.esc": "Esc",
    "key.tab": "Tab",
    "key.delete": "Del",
    "key.backspace": "Backspace",
    "key.windows": "Windows key",
    "key.print": "Print Screen",

    "layout.us": "US",
    "layout.us-intl": "US International",
    "layout.uk": "UK",
    "layout.be": "Belgian",
    "layout.dk": "Danish",
    "layout.de": "German",
    "layout.fi": "Finnish",
    "layout.fr": "French",
    "layout.it": "Italian",
    "layout.jp": "Japanese",
    "layout.no": "Norwegian",
    "layout.pl": "Polish (programmers)",
    "layout.pt": "Portuguese",
    "layout.es": "Spanish",
    "layout.se": "Swedish",
    "layout.ch-de": "Swiss German",
    "layout.ch-fr": "Swiss French",
};
