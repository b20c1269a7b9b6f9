// The first module, a few kilobytes: it opens the console's WebSocket while the rest of the page
// still loads. What arrives before is kept by the channel, and handed on in order.

import { socketURL, takeAddress } from "./address.js";
import { Binding } from "./binding.js";
import { broken } from "./broken.js";
import { Channel, isSendable } from "./channel.js";
import { recall } from "./kept.js";
import { Turn } from "./turn.js";

export const address = takeAddress(window.location, window.history);
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
        const wanted = [address.language, ...navigator.languages];
        document.getElementById("heading").textContent = broken(wanted);
        (await opening)?.close();
    }
}

void load();
