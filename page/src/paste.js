// Text from this side typed on the machine, where no clipboard reaches.

import { typeText } from "./keys.js";
import * as words from "./words.js";

/**
 * @param {{byId: (id: string) => HTMLElement, session: Session, toConsole: () => void}} parts
 * @returns {{open: () => void, close: () => void}}
 */
export function pasteDialog({ byId, session, toConsole }) {
    const dialog = byId("paste-dialog");
    const text = byId("paste-text");
    const slow = byId("paste-slow");
    const send = byId("paste-send");
    const progress = byId("paste-progress");
    let typing = null;

    async function type() {
        if (typing || !text.value || !session.rfb) return;
        const mine = new AbortController();
        typing = mine;
        send.disabled = text.readOnly = true;
        await typeText(session.rfb, text.value, {
            slow: slow.checked,
            signal: mine.signal,
            clear: () => session.sent(),
            progress: (done, total) => (progress.textContent = words.typed(done, total)),
        });
        if (!mine.signal.aborted) dialog.close();
    }

    send.addEventListener("click", type);
    byId("paste-cancel").addEventListener("click", () => dialog.close());
    text.addEventListener("keydown", (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) type();
    });
    dialog.addEventListener("close", () => {
        typing?.abort();
        typing = null;
        // It may have been a password.
        text.value = progress.textContent = "";
        send.disabled = text.readOnly = false;
        toConsole();
    });

    return {
        open: () => {
            dialog.showModal();
            text.focus();
        },
        close: () => dialog.close(),
    };
}
