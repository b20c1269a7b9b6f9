// The first module, a few kilobytes: it opens the console's WebSocket while the rest of the page
// still loads. What arrives before is kept by the channel, and handed on in order.

import { socketURL, takeAddress } from "./address.js";
import { Binding } from "./binding.js";
import { broken } from "./broken.js";
import { Channel, isSendable } from "./channel.js";
import { keep, recall } from "./kept.js";
import { Turn } from "./turn.js";

export const build = BUILD;
export const address = takeAddress(window.location, window.history);
// Milliseconds for which the proxy's greeting is waited for.
const HELLO = 5_000;
export const url = socketURL(import.meta.url, address.path);
/** What this tab had before it was reloaded; null where the address has a token. */
export const kept = address.token ? null : recall();
const token = address.token || (kept?.token ?? "");
export const binding = new Binding(kept);
export const turn = new Turn();
/** A promise of the first connection; of null where the address leads to none. */
export const opening = open();

async function open() {
    if (!url || !token || !isSendable(token)) return null;
    await turn.take(token);
    const offers = await binding.offers(token, Boolean(kept?.resumes));
    return new Channel(url, token, offers).hold();
}

async function load() {
    if (document.readyState === "loading") {
        await new Promise((parsed) => document.addEventListener("DOMContentLoaded", parsed));
    }
    try {
        const isSDK = document.documentElement.dataset.client === "wmks";
        await (isSDK ? import("./wmks.js") : import("./console.js"));
    } catch (error) {
        console.error("console:", error);
        const isKept = await keepForReload();
        if (isKept && !kept?.again) {
            location.reload();
            return;
        }
        const { heading, reload } = broken([address.language, ...navigator.languages]);
        document.getElementById("heading").textContent = heading;
        const retry = document.getElementById("retry");
        retry.textContent = reload;
        retry.onclick = () => location.reload();
        retry.hidden = !isKept;
        (await opening)?.close();
    }
}

// The link has left the address bar, and may be used up: a reload comes back with what the proxy
// gives in its place. It does so by itself once, as servers of two releases may have answered.
async function keepForReload() {
    const channel = await opening;
    if (!channel) return false;
    const resume = await new Promise((told) => {
        setTimeout(told, HELLO);
        channel.addEventListener("closed", () => told());
        channel.addEventListener("control", ({ detail }) => told(detail.resume));
        channel.release();
    });
    const isBound = await binding.keep();
    const facts = isBound && resume ? { token: resume, resumes: true } : { token, resumes: Boolean(kept?.resumes) };
    return keep({ ...facts, ...binding.facts, again: true });
}

void load();
