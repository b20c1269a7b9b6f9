// The tool bar: out of the way until somebody wants it, by pointer, touch or keyboard.

import { aboutPanel } from "./about.js";
import { COMBOS, press } from "./keys.js";
import { load, save } from "./memory.js";
import { fill, roundTrip, t } from "./words.js";

// Milliseconds.
const FIRST_LOOK = 4_000;
const AFTER_POINTER = 700;
const SETTLING = 300;
const EDGE = "mksfilter.edge";
// What a round trip feels like, up to so many milliseconds.
const QUALITIES = [
    [80, "good"],
    [250, "fair"],
    [Infinity, "poor"],
];

/**
 * @param {{byId: (id: string) => HTMLElement, session: Session, toConsole: () => void,
 *     openPaste: () => void}} parts `toConsole` gives the keyboard back to the machine
 */
export function toolBar({ byId, session, toConsole, openPaste }) {
    const bar = byId("bar");
    const tools = byId("tools");
    const handle = byId("handle");
    const menu = byId("combo-menu");
    const combos = byId("combos");
    let timer = 0;
    let isIntroduced = false;
    const about = aboutPanel({ byId });

    const isWanted = () => bar.matches(":focus-within") || !menu.hidden;

    function open() {
        clearTimeout(timer);
        bar.dataset.open = "";
        handle.setAttribute("aria-expanded", "true");
    }

    function close() {
        clearTimeout(timer);
        closeMenu();
        about.close();
        delete bar.dataset.open;
        handle.setAttribute("aria-expanded", "false");
    }

    function closeIn(milliseconds) {
        clearTimeout(timer);
        timer = setTimeout(() => {
            if (!isWanted()) close();
        }, milliseconds);
    }

    function openByKeyboard() {
        open();
        visible(tools)[0]?.focus();
    }

    function leave() {
        close();
        toConsole();
    }

    function openMenu() {
        menu.hidden = false;
        combos.setAttribute("aria-expanded", "true");
        menu.querySelector("button").focus();
    }

    function closeMenu() {
        menu.hidden = true;
        combos.setAttribute("aria-expanded", "false");
    }

    for (const [index, chords] of COMBOS.entries()) {
        const group = document.createElement("div");
        group.role = "group";
        fill(group, { tLabel: index ? "other-keys" : "usual-keys" });
        group.append(...chords.map(menuItem));
        menu.append(group);
    }

    function menuItem(keys) {
        const item = document.createElement("button");
        item.type = "button";
        item.role = "menuitem";
        item.tabIndex = -1;
        fill(item, { chord: keys.join(" ") });
        item.addEventListener("click", () => {
            closeMenu();
            press(session.rfb, keys);
            toConsole();
            closeIn(AFTER_POINTER);
        });
        return item;
    }

    // Who reaches for the handle and clicks must not hit the tool that slides in below it.
    function openByPointer(event) {
        if (event.pointerType === "touch") return;
        if (!("open" in bar.dataset)) {
            bar.dataset.settling = "";
            setTimeout(() => delete bar.dataset.settling, SETTLING);
        }
        open();
    }

    handle.addEventListener("click", openByKeyboard);
    bar.addEventListener("pointerenter", openByPointer);
    bar.addEventListener("pointerleave", (event) => {
        if (event.pointerType !== "touch") closeIn(AFTER_POINTER);
    });
    bar.addEventListener("focusout", () => closeIn(AFTER_POINTER));
    document.addEventListener("pointerdown", (event) => {
        if (!menu.hidden && !event.target.closest(".holder")) closeMenu();
    });

    bar.addEventListener("keydown", (event) => {
        if (event.key === "Escape") {
            if (menu.hidden) leave();
            else {
                closeMenu();
                combos.focus();
            }
        } else if (!menu.hidden && event.key === "Tab") {
            closeMenu();
            return;
        } else if (!menu.hidden) {
            if (!move(event.key, [...menu.querySelectorAll("button")], "ArrowUp", "ArrowDown")) return;
        } else if (event.key === "ArrowDown" && event.target === combos) {
            openMenu();
        } else if (!move(event.key, visible(tools), ...sideways())) {
            return;
        }
        event.preventDefault();
        event.stopPropagation();
    });

    combos.addEventListener("click", () => (menu.hidden ? openMenu() : closeMenu()));

    byId("cad").addEventListener("click", () => {
        session.rfb?.sendCtrlAltDel();
        toConsole();
    });

    byId("paste").addEventListener("click", () => {
        close();
        openPaste();
    });

    byId("fit").addEventListener("click", (event) => {
        session.fit = !session.fit;
        event.currentTarget.setAttribute("aria-pressed", String(session.fit));
    });

    const full = byId("full");
    // A frame that was not given the permission cannot: no button then.
    full.hidden = !document.fullscreenEnabled;
    full.addEventListener("click", async () => {
        if (document.fullscreenElement) await document.exitFullscreen();
        else await fillScreen();
        toConsole();
    });
    document.addEventListener("fullscreenchange", () => {
        full.setAttribute("aria-pressed", String(Boolean(document.fullscreenElement)));
    });

    const edge = byId("edge");
    function moveTo(where) {
        bar.dataset.edge = where;
        const key = `move-to-${otherEdge(where)}`;
        fill(edge, { tTitle: key });
        fill(edge.querySelector(".sr"), { t: key });
    }
    moveTo(load(EDGE) === "bottom" ? "bottom" : "top");
    edge.addEventListener("click", () => {
        moveTo(otherEdge(bar.dataset.edge));
        save(EDGE, bar.dataset.edge);
        closeIn(AFTER_POINTER);
    });

    // Narrow, it has several rows; menu and panel have what it leaves.
    const measure = () => document.body.style.setProperty("--bar", `${tools.offsetHeight}px`);
    new ResizeObserver(measure).observe(tools);

    // Whoever types wants to see the line below the bar.
    session.addEventListener("key", () => {
        if ("open" in bar.dataset && !isWanted()) close();
    });

    byId("disconnect").addEventListener("click", () => session.disconnect());

    return {
        /** Let people see once that it is there. */
        introduce() {
            if (isIntroduced) return;
            isIntroduced = true;
            open();
            closeIn(FIRST_LOOK);
        },
        openByKeyboard,
        close,
        /** @param {Record<string, string>} facts for the panel behind the button "who and where" */
        tell: about.tell,
        /** @param {number} milliseconds to the console server and back */
        showRoundTrip(milliseconds) {
            const element = byId("round-trip");
            const quality = QUALITIES.find(([most]) => milliseconds <= most)[1];
            element.hidden = false;
            element.dataset.quality = quality;
            element.textContent = roundTrip(milliseconds);
            element.title = t(`quality-${quality}`);
        },
    };
}

const sideways = () =>
    document.documentElement.dir === "rtl"
        ? ["ArrowRight", "ArrowLeft"]
        : ["ArrowLeft", "ArrowRight"];

const otherEdge = (edge) => (edge === "top" ? "bottom" : "top");

async function fillScreen() {
    await document.documentElement.requestFullscreen();
    // Chromium only: Alt-Tab, Esc and the like then go to the machine too.
    await navigator.keyboard?.lock?.().catch(() => undefined);
}

/** The tool bar's own buttons that can be used now, in order. */
function visible(tools) {
    return [...tools.querySelectorAll("button.tool")].filter((button) => button.checkVisibility());
}

/** Move the focus among *items* as *key* says; false when it says nothing. */
function move(key, items, back, forth) {
    const at = items.indexOf(document.activeElement);
    const to = { [back]: at - 1, [forth]: at + 1, Home: 0, End: items.length - 1 }[key];
    if (to === undefined || at < 0) return false;
    items[(to + items.length) % items.length].focus();
    return true;
}
