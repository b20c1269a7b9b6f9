// The first module, a few kilobytes: it opens the console's WebSocket while the rest of the page
// still loads. What arrives before is kept by the channel, and handed on in order.

import { socketURL, takeAddress } from "./address.js";
import { Binding } from "./binding.js";
import { broken } from "./broken.js";
import { Channel, isSendable } from "./channel.js";

export const address = takeAddress(window.location, window.history);
export const url = socketURL(import.meta.url, address.path);
export const binding = new Binding();
/** A promise of the first connection; of null where the address leads to none. */
export const opening = open();

async function open() {
    if (!url || !address.token || !isSendable(address.token)) return null;
    const offers = await binding.offers(address.token, false);
    return new Channel(url, address.token, offers).hold();
}

async function load() {
    if (document.readyState === "loading") {
        await new Promise((parsed) => document.addEventListener("DOMContentLoaded", parsed));
    }
    try {
        await import("./console.js");
    } catch (error) {
        console.error("console:", error);
        const wanted = [address.language, ...navigator.languages];
        document.getElementById("heading").textContent = broken(wanted);
        (await opening)?.close();
    }
}

void load();
