// Everything the page says, in one place; the server's own words are in mksfilter/exceptions.py.

import { wordsFor } from "./endings.js";

export const CONSOLE = "Console";
export const CONNECTING = "Connecting to the console";
export const STILL_CONNECTING = "This takes longer than usual. The host of the machine may be busy.";
export const RECONNECTING = "Connection lost";
export const MOVING = "The console server is restarting";
/** Why a machine has no console now, by the reason of the `end` frame; and what the page does. */
export const ASLEEP = {
    "powered-off": "Powered off. I open it when it starts.",
    suspended: "Suspended. I open it when it resumes.",
};
export const ASLEEP_OTHERWISE = "This machine has no console now. I open it when it has.";
export const tryingAgainIn = (seconds) => `Trying again in ${Math.max(0, Math.ceil(seconds))} s`;
export const TRYING = "Trying now";
export const ENDED = "The console has ended";
export const DISCONNECTED = "You disconnected from the console";
export const NOT_OPENED = "The console could not be opened";
export const NO_LINK = "This console link has been used up";
export const BROKEN = "The console page stopped working";

export const RETRY = "Reconnect";
export const RETRY_NOW = "Try now";
export const TRY_AGAIN = "Try again";

export const FIT = "Fit window";
/** What the button does that moves the tool bar, by the edge that the bar goes to. */
export const MOVE_TO = { top: "Move to the top", bottom: "Move to the bottom" };
export const HINT = "Ctrl + Alt + Shift opens the tool bar";
export const NO_KEYS = "View only: keys do not reach the machine";
export const HINT_IN_BAR = "Arrow keys move, Esc returns to the machine";
export const ASK_FOR_NEW = "Open the console again from where you got this link.";
export const UNREACHABLE = "The console server cannot be reached. Check your network.";
export const DENIED =
    "The console server did not accept this link. It may have expired: open the console again " +
    "from where you got it. If that does not help, something on the way may block WebSockets.";
export const OFFLINE = "The network is gone.";
export const BUSY = "The console server takes nobody at the moment.";
export const EXPIRED =
    "This console link has expired. Open the console again from where you got it.";
export const REFUSED =
    "The console server does not accept this link any more: it was used already, or access was " +
    "withdrawn. Open the console again from where you got it.";
export const BLOCKED =
    "Something between this browser and the console server blocks WebSockets: a proxy, a " +
    "firewall or an extension. The link itself is good. Try another network, or ask whoever runs " +
    "this one.";
export const otherAddress = (origin) =>
    `This console server takes no consoles from pages at ${origin}. Ask your cloud's operator to ` +
    "see its allowed_origins.";
export const INTERCEPTED =
    "Something on the way answered in the console server's place. Do you have to log in to this " +
    "network first?";
export const OTHER_SERVER =
    "This link names a path that is not a console's on this server. Do not use it: open the " +
    "console again from the dashboard.";
export const SILENT = "The console server did not answer any more.";
export const CHECK_NETWORK = "The picture may be old. Check your network.";
export const noAnswerFor = (seconds) => `No answer for ${seconds} s`;
export const roundTrip = (milliseconds) => `${Math.max(1, Math.round(milliseconds))} ms`;
export const QUALITIES = {
    good: "Good connection: time to the console server and back",
    fair: "Slow connection: time to the console server and back",
    poor: "Poor connection: time to the console server and back",
};
export const TIMED_OUT = "The console did not answer in time.";
export const PASSWORD_WANTED = "The machine's console asks for a password, which this page cannot give.";
export const SCREEN_BROKEN = "The machine's console sent a picture that this page does not understand.";

/** The label that screen readers announce for the machine's screen. */
export const screenLabel = (name, viewOnly) =>
    viewOnly
        ? `Screen of ${name}, view only`
        : `Screen of ${name}. Keys go to the machine. ${HINT}.`;

export const securityFailure = (reason) =>
    reason
        ? `The machine's console refused the connection: ${reason}`
        : "The machine's console refused the connection.";

export const endsIn = (seconds) => `Ends in ${clock(seconds)}`;

// --- the strip for text ---

export const TYPE = "Type it";
export const TYPE_WITHOUT = "Type without them";
export const TYPE_REST = "Type the rest";
export const STOP = "Stop";
export const CANCEL = "Cancel";
export const SYSTEMS = { linux: "Linux", windows: "Windows" };

export const typed = (done, total) => `${done} of ${total} characters typed`;

const named = (characters, count) =>
    characters.length ? characters.join(" ") : `${count} of the characters`;

export const notOnKeyboard = (characters, count) =>
    `Not on this keyboard, left out: ${named(characters, count)}`;
export const keyNotTaken = (characters, count) =>
    `May not arrive, as this host does not take their key: ${named(characters, count)}`;
export const otherOnWindows = (characters, count) =>
    `Typed otherwise on Windows (choose it if the machine runs it): ${named(characters, count)}`;

const uncertain = (number, isUncertain) =>
    isUncertain ? ` Number ${number} may have arrived: look at the screen.` : "";
const KEPT = "The rest is still here.";

/** Why typing ended before the end of the text; keys are the reasons of typing.js. */
export const typingEnded = {
    stopped: (done, total) => `Stopped: ${typed(done, total)}. ${KEPT}`,
    cut: (done, total, isUncertain) =>
        `The connection was lost: ${typed(done, total)}.${uncertain(done + 1, isUncertain)} ${KEPT}`,
    silent: (done, total, isUncertain) =>
        `The host no longer answers: ${typed(done, total)}.${uncertain(done + 1, isUncertain)} ${KEPT}`,
};

/** Words for a WebSocket close code that came without an `end` frame (RFC 6455 section 7.4.1). */
export const closed = (code) =>
    ({
        1000: "The machine's console closed the connection.",
        1001: "The console server closed the connection.",
        1002: "The connection was closed because of a protocol error.",
        1008: "The console server closed the connection.",
        1011: wordsFor("upstream-lost"),
        1012: wordsFor("server-draining"),
        1013: "The console server is busy. Try again in a moment.",
        1014: "The host of the machine closed the connection.",
    })[code] ?? "The connection to the console was lost.";

function clock(seconds) {
    const whole = Math.max(0, Math.ceil(seconds));
    const hours = Math.floor(whole / 3600);
    const minutes = String(Math.floor((whole % 3600) / 60));
    const rest = String(whole % 60).padStart(2, "0");
    return hours ? `${hours}:${minutes.padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}
