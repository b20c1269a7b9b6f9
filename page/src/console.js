// The page: what the URL says goes in, a console and words about it come out.

import { toolBar } from "./bar.js";
import { claimsOf } from "./binding.js";
import * as first from "./first.js";
import * as keeper from "./kept.js";
import { asFileName, asName, split } from "./names.js";
import { Session } from "./session.js";
import { keepSharp } from "./sharpness.js";
import { showSign } from "./signs.js";
import { isTouch, touchKeys } from "./touch.js";
import { WayOut } from "./way-out.js";
import { about, endsIn, screenLabel, speak, t, translate, typingEnded, why } from "./words.js";

// A node of another release has answered for one of the two.
if (first.build !== BUILD) throw new Error("first.js is of another release");
const { address, binding, kept, opening, turn, url } = first;
const byId = (id) => document.getElementById(id);
const { title, language } = address;
// Characters of a question that are shown.
const QUESTION = 300;
const token = address.token || (kept?.token ?? "");

const stage = byId("stage");
const session = new Session({
    url, token, stage, binding, opening, turn, keeper, resumes: Boolean(kept?.resumes),
});
const withStrip = later(async () => {
    const { build, textStrip } = await import("./strip.js");
    if (build !== BUILD) throw new Error("strip.js is of another release");
    const say = (text) => hint(text, 4_000);
    return textStrip({ byId, session, toConsole, say, words: { about, t, translate, typingEnded } });
});
keepSharp(stage);
touchKeys({ byId, session });
const bar = toolBar({ byId, session, toConsole, openPaste: () => withStrip((strip) => strip.open()) });

// The link's title is a hint, which whoever made the link has chosen: a machine's own name counts.
let name = title;
let machine = "";
let deadline = 0;
let ticker = 0;
let hintTimer = 0;
let countdown = 0;
// What the machine waits to be told in vCenter, while it stands still.
let question = "";
// What was shown last, to say it again in another language.
let shown = null;

// Names come from users and from consoles: text, whatever they contain (CVE-2017-18635).
function showName() {
    // Dashboards write NAME(UUID) into the link: the name is what people read. The machine that it
    // opens is the token's.
    const [short, itsId] = split(name);
    const id = itsId || claimsOf(token).iid || split(title)[1];
    byId("title").textContent = byId("name").textContent = short || t("console");
    byId("title").title = short;
    byId("title-id").textContent = byId("title-id").title = id;
    byId("who").textContent = short;
    byId("who-id").textContent = id;
    bar.tell({ name: short, id });
    document.title = short ? t("page-title", { name: short }) : t("console");
    stage.querySelector("canvas")?.setAttribute(
        "aria-label",
        screenLabel(short || t("console"), session.viewOnly),
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

// The reasons for which a machine has no console now.
const ASLEEP = {
    "powered-off": "asleep-powered-off", suspended: "asleep-suspended",
    "question-pending": "asleep-question-pending", "failing-over": "asleep-failing-over",
};

/**
 * What does something with what *load* brings, which is loaded once. Whoever wants it is told when
 * it does not come: the page may be older than its server.
 */
function later(load) {
    let loading = null;
    let loaded = null;
    return (use) => {
        if (loaded) return use?.(loaded);
        loading ??= load();
        loading.then(
            (it) => {
                loaded = it;
                use?.(it);
            },
            (error) => {
                loading = null;
                console.info("console:", error);
                if (use) hint(t("reload-page"), 10_000);
            },
        );
    };
}

const secondsUntil = (time) => Math.max(0, Math.ceil((time - performance.now()) / 1000));

const show = {
    connecting({ attempt, slow }) {
        showSign(byId("sign"), null);
        const detail = slow ? t("still-connecting") : "";
        // The reason for which it was lost stays there until it is back.
        if (!attempt) say(t("connecting"), detail);
        else if (slow) say(t("reconnecting"), detail);
        countDown(attempt ? t("trying") : "");
        offer("", true);
    },

    connected() {
        const screen = stage.querySelector("canvas");
        screen?.setAttribute("role", "application");
        document.body.dataset.mode = session.viewOnly ? "view" : "full";
        byId("mode").hidden = !session.viewOnly;
        showName();
        bar.introduce();
        if (!session.viewOnly) hint(t(isTouch() ? "hint-for-fingers" : "hint"), 6_000);
        if (!byId("paste-dialog").contains(document.activeElement)) toConsole();
        withStrip();
    },

    waiting({ ending, moving, asleep, at }) {
        showSign(byId("sign"), asleep ? { reason: asleep } : null);
        if (asleep) {
            say(t(asleep in ASLEEP ? ASLEEP[asleep] : "asleep"), asleep === "question-pending" ? question : "");
            countDown("");
        } else {
            say(t(moving ? "moving" : "reconnecting"), moving ? "" : why(ending));
            const tick = () =>
                countDown(t("trying-again-in", { seconds: secondsUntil(at) }));
            tick();
            countdown = setInterval(tick, 1_000);
        }
        offer(t("retry-now"), true);
    },

    ended({ ending, offer: canRetry, byUser, established, elsewhere }) {
        showSign(byId("sign"), byUser ? { byUser } : ending);
        if (byUser) say(t("disconnected"));
        else if (elsewhere) say(t("elsewhere"), why(ending));
        else say(t(established ? "ended" : "not-opened"), why(ending));
        const again = elsewhere ? "take-back" : established ? "retry" : "try-again";
        offer(canRetry ? t(again) : "");
        // Not the button: somebody may be typing, and the next Enter or space would press it.
        byId("card").focus();
    },
};

session.addEventListener("change", ({ detail }) => {
    document.body.dataset.state = detail.state;
    shown = detail;
    delete document.body.dataset.silent;
    clearInterval(countdown);
    countDown("");
    if (detail.state !== "connected") {
        setDeadline(0);
        byId("hint").hidden = true;
        bar.close();
    }
    show[detail.state](detail);
    showQuestion();
});

session.addEventListener("name", ({ detail }) => {
    name = machine || title || asName(detail);
    showName();
});

session.addEventListener("machine", ({ detail }) => {
    name = machine = asName(detail);
    showName();
});

session.addEventListener("character", ({ detail }) => {
    withStrip((strip) => strip.type(detail.character));
});

session.addEventListener("facts", ({ detail }) => {
    bar.tell(detail);
    ask("");
});

session.addEventListener("whereabouts", ({ detail }) => bar.tell(detail));

session.addEventListener("beat", ({ detail }) => bar.showRoundTrip(detail));

session.addEventListener("silent", ({ detail }) => {
    document.body.dataset.silent = "";
    showSign(byId("sign"), { key: "silent" });
    say(t("no-answer-for", { seconds: detail }), t("check-network"));
    offer("", true);
});

session.addEventListener("heard", () => {
    delete document.body.dataset.silent;
});

session.addEventListener("notice", ({ detail }) => {
    if (detail.notice === "question") ask(asName(String(detail.text ?? ""), QUESTION));
    if (detail.notice !== "lifetime" || !(detail.in > 0)) return;
    setDeadline(performance.now() + detail.in * 1000);
    hint(endsIn(detail.in), 8_000);
});

function ask(text) {
    question = text;
    showQuestion();
}

function showQuestion() {
    const strip = byId("question");
    strip.hidden = !question || session.state !== "connected";
    strip.textContent = t("asks", { question });
}
new ResizeObserver(([{ target }]) => {
    document.body.style.setProperty("--asks", `${target.offsetHeight}px`);
}).observe(byId("question"));

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
    byId("notice").textContent = endsIn(left);
    if (left < 30) hint(endsIn(left), 2_000);
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

const wayOut = new WayOut(window);

// The last key of the chord that is the way out stays here.
window.addEventListener(
    "keydown",
    (event) => {
        const isChord = wayOut.isTaken(event);
        if (session.state !== "connected") return;
        if (!isChord) {
            const isCharacter = event.key.length === 1 && !event.ctrlKey && !event.metaKey;
            if (session.viewOnly && isCharacter && !event.target.closest?.(".bar")) {
                hint(t("no-keys"), 4_000);
            }
            return;
        }
        event.preventDefault();
        event.stopPropagation();
        // The screen loses the focus, and the machine its keys: their release would not reach it.
        bar.openByKeyboard();
        hint(t("hint-in-bar"), 4_000);
    },
    { capture: true },
);

// What cannot be kept through a reload is not lost without a question.
window.addEventListener("beforeunload", (event) => {
    if (session.state === "connected" && !session.isKept) event.preventDefault();
});

window.addEventListener("error", () => {
    if (document.body.dataset.state === "starting") say(t("broken"));
});

function speakTo(languages) {
    // Nothing is said in English first to who reads another language.
    document.documentElement.dataset.words = "coming";
    void speak(languages).then(() => {
        delete document.documentElement.dataset.words;
        translate(document);
        showName();
        showQuestion();
        if (shown) show[shown.state](shown);
        else if (!token) {
            showSign(byId("sign"), { key: "no-link" });
            say(t("no-link"), t("ask-for-new"));
        }
    });
}

// The connection does not wait for the words.
if (token) session.retry();
else document.body.dataset.state = "ended";
speakTo([language, ...navigator.languages].filter(Boolean));
