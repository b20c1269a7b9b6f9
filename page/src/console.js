// The page: what the URL says goes in, a console and words about it come out.

import { toolBar } from "./bar.js";
import { address, binding, opening, url } from "./first.js";
import { asFileName, asName } from "./names.js";
import { Session } from "./session.js";
import { keepSharp } from "./sharpness.js";
import { textStrip } from "./strip.js";
import * as words from "./words.js";

const byId = (id) => document.getElementById(id);
const { token, title, language } = address;

const stage = byId("stage");
const session = new Session({ url, token, stage, binding, opening });
const strip = textStrip({ byId, session, toConsole, say: (text) => hint(text, 4_000) });
keepSharp(stage);
const bar = toolBar({ byId, session, toConsole, openPaste: strip.open });

// The link's title is a hint, which whoever made the link has chosen: a machine's own name counts.
let name = title;
let machine = "";
let deadline = 0;
let ticker = 0;
let hintTimer = 0;
let countdown = 0;

// Names come from users and from consoles: text, whatever they contain (CVE-2017-18635).
function showName() {
    byId("title").textContent = name || words.CONSOLE;
    byId("title").title = name;
    byId("who").textContent = name;
    document.title = name ? `${name} - ${words.CONSOLE}` : words.CONSOLE;
    stage.querySelector("canvas")?.setAttribute(
        "aria-label",
        words.screenLabel(name || words.CONSOLE, session.viewOnly),
    );
}

function toConsole() {
    if (session.state === "connected") session.rfb?.focus({ preventScroll: true });
}

function say(heading, detail = "") {
    byId("heading").textContent = heading;
    byId("detail").textContent = detail;
}

// Not in the part that screen readers announce: they would do so each second.
function countDown(text) {
    byId("countdown").textContent = text;
}

function offer(label, canStop = false) {
    const retry = byId("retry");
    retry.hidden = !label;
    retry.textContent = label;
    byId("stop").hidden = !canStop;
}

function hint(text, milliseconds) {
    const element = byId("hint");
    element.textContent = text;
    element.hidden = false;
    clearTimeout(hintTimer);
    hintTimer = setTimeout(() => (element.hidden = true), milliseconds);
}

const show = {
    connecting({ attempt, slow }) {
        const detail = slow ? words.STILL_CONNECTING : "";
        // The reason for which it was lost stays there until it is back.
        if (!attempt) say(words.CONNECTING, detail);
        else if (slow) say(words.RECONNECTING, detail);
        countDown(attempt ? words.TRYING : "");
        offer("", true);
    },

    connected() {
        const screen = stage.querySelector("canvas");
        screen.setAttribute("role", "application");
        document.body.dataset.mode = session.viewOnly ? "view" : "full";
        byId("mode").hidden = !session.viewOnly;
        showName();
        bar.introduce();
        if (!session.viewOnly) hint(words.HINT, 6_000);
        if (!strip.hasFocus) toConsole();
    },

    waiting({ message, moving, asleep, at }) {
        if (asleep) {
            say(words.ASLEEP[asleep] ?? words.ASLEEP_OTHERWISE);
            countDown("");
        } else {
            say(moving ? words.MOVING : words.RECONNECTING, moving ? "" : message);
            const tick = () =>
                countDown(words.tryingAgainIn((at - performance.now()) / 1000));
            tick();
            countdown = setInterval(tick, 1_000);
        }
        offer(words.RETRY_NOW, true);
    },

    ended({ message, offer: canRetry, byUser, established }) {
        const heading = established ? words.ENDED : words.NOT_OPENED;
        say(byUser ? words.DISCONNECTED : heading, message);
        offer(canRetry ? (established ? words.RETRY : words.TRY_AGAIN) : "");
        // Not the button: somebody may be typing, and the next Enter or space would press it.
        byId("card").focus();
    },
};

session.addEventListener("change", ({ detail }) => {
    document.body.dataset.state = detail.state;
    delete document.body.dataset.silent;
    clearInterval(countdown);
    countDown("");
    if (detail.state !== "connected") {
        setDeadline(0);
        byId("hint").hidden = true;
        bar.close();
    }
    show[detail.state](detail);
});

session.addEventListener("name", ({ detail }) => {
    name = machine || title || asName(detail);
    showName();
});

session.addEventListener("machine", ({ detail }) => {
    name = machine = asName(detail);
    showName();
});

session.addEventListener("beat", ({ detail }) => bar.showRoundTrip(detail));

session.addEventListener("silent", ({ detail }) => {
    document.body.dataset.silent = "";
    say(words.noAnswerFor(detail), words.CHECK_NETWORK);
    offer("", true);
});

session.addEventListener("heard", () => {
    delete document.body.dataset.silent;
});

session.addEventListener("notice", ({ detail }) => {
    if (detail.notice !== "lifetime" || !(detail.in > 0)) return;
    setDeadline(performance.now() + detail.in * 1000);
    hint(words.endsIn(detail.in), 8_000);
});

function setDeadline(when) {
    deadline = when;
    clearInterval(ticker);
    byId("notice").hidden = !when;
    if (when) {
        ticker = setInterval(tick, 1_000);
        tick();
    }
}

function tick() {
    const left = (deadline - performance.now()) / 1000;
    byId("notice").textContent = words.endsIn(left);
    if (left < 30) hint(words.endsIn(left), 2_000);
}

byId("retry").addEventListener("click", () => session.retry());
byId("shot").addEventListener("click", () => {
    const time = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
    stage.querySelector("canvas:not(.still)")?.toBlob((picture) => {
        const link = document.createElement("a");
        link.href = URL.createObjectURL(picture);
        link.download = `${asFileName(name) || "console"}-${time}Z.png`;
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    }, "image/png");
    toConsole();
});
byId("stop").addEventListener("click", () => session.disconnect());

let altGr = false;
const altGrUp = (event) => {
    if (event.type === "blur" || event.code === "AltRight") altGr = false;
};
window.addEventListener("keyup", altGrUp, { capture: true });
window.addEventListener("blur", altGrUp);

// While the machine has the keyboard every key goes to it, Tab included; this chord is the way
// out (WCAG 2.1.2, no keyboard trap). The last of its three keys stays here.
window.addEventListener(
    "keydown",
    (event) => {
        if (event.code === "AltRight") altGr = true;
        // Windows tells AltGr as Ctrl and Alt: with Shift it writes letters, such as Polish Ł.
        const isChord =
            event.ctrlKey && event.altKey && event.shiftKey &&
            !altGr && !event.getModifierState("AltGraph") &&
            ["Control", "Alt", "Shift", "Meta"].includes(event.key);
        if (session.state !== "connected") return;
        if (!isChord) {
            const isCharacter = event.key.length === 1 && !event.ctrlKey && !event.metaKey;
            if (session.viewOnly && isCharacter && !event.target.closest?.(".bar")) {
                hint(words.NO_KEYS, 4_000);
            }
            return;
        }
        event.preventDefault();
        event.stopPropagation();
        // The screen loses the focus, and the machine its keys: their release would not reach it.
        bar.openByKeyboard();
        hint(words.HINT_IN_BAR, 4_000);
    },
    { capture: true },
);

window.addEventListener("error", () => {
    if (document.body.dataset.state === "starting") say(words.BROKEN);
});

if (language) document.documentElement.lang = language;
showName();
if (token) {
    session.retry();
} else {
    document.body.dataset.state = "ended";
    say(words.NO_LINK, words.ASK_FOR_NEW);
}
