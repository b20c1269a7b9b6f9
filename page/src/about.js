// Who and where: what an operator asks for when somebody reports a fault, behind one button.

import { t } from "./words.js";

// The facts in their order, by their keys in the catalogue.
const FACTS = ["name", "id", "request", "session", "node"];

/**
 * @param {{byId: (id: string) => HTMLElement}} parts
 * @returns {{tell: (facts: Record<string, string>) => void, close: () => void, isOpen: boolean}}
 */
export function aboutPanel({ byId }) {
    const button = byId("about");
    const panel = byId("about-panel");
    const list = byId("about-facts");
    const copy = byId("about-copy");
    const known = {};

    const rows = () => FACTS.filter((fact) => known[fact]).map((fact) => [fact, known[fact]]);

    function show() {
        const cells = rows().flatMap(([fact, value]) => {
            const term = document.createElement("dt");
            term.textContent = t(`about-${fact}`);
            const detail = document.createElement("dd");
            // Text, whatever it contains.
            detail.textContent = value;
            detail.dir = "auto";
            return [term, detail];
        });
        list.replaceChildren(...cells);
        copy.textContent = t("copy");
    }

    function open() {
        show();
        panel.hidden = false;
        button.setAttribute("aria-expanded", "true");
        copy.focus();
    }

    function close() {
        panel.hidden = true;
        button.setAttribute("aria-expanded", "false");
    }

    async function copyAll() {
        const text = rows().map(([fact, value]) => `${t(`about-${fact}`)}: ${value}`).join("\n");
        try {
            await navigator.clipboard.writeText(text);
            copy.textContent = t("copied");
        } catch {
            // In a frame that may not, or over plain HTTP: marked, to be copied by hand.
            getSelection().selectAllChildren(list);
        }
    }

    button.addEventListener("click", () => (panel.hidden ? open() : close()));
    copy.addEventListener("click", copyAll);
    panel.addEventListener("keydown", (event) => {
        if (event.key === "Escape") {
            close();
            button.focus();
            event.preventDefault();
        }
        // The keys of the tool bar mean nothing here.
        event.stopPropagation();
    });
    document.addEventListener("pointerdown", (event) => {
        if (!panel.hidden && !event.target.closest("#about-holder")) close();
    });

    return {
        tell(facts) {
            Object.assign(known, facts);
            if (!panel.hidden) show();
        },
        close,
        get isOpen() {
            return !panel.hidden;
        },
    };
}
