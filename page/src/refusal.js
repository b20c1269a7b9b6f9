// Why a WebSocket did not open: browsers do not tell a page, so the page asks over plain HTTP.

import * as words from "./words.js";

/**
 * @param {string} url of the WebSocket
 * @param {string} token that was refused with it
 * @returns {Promise<{message: string, isFinal?: boolean, isTaken?: boolean, time?: number}>}
 *     `isFinal`: the token opens nothing any more; `isTaken`: it would open a console; `time`:
 *     seconds since the epoch by the server's clock
 */
export async function whyRefused(url, token) {
    const question = new URL(url);
    question.protocol = question.protocol === "wss:" ? "https:" : "http:";
    question.search = "";
    if (!question.pathname.endsWith("/websockify")) {
        question.pathname = question.pathname.replace(/\/?$/, "/websockify");
    }
    let answer;
    try {
        answer = await fetch(question, { headers: { "Mks-Token": token, "Mks-Origin": location.origin }, cache: "no-store" });
    } catch {
        return { message: navigator.onLine ? words.UNREACHABLE : words.OFFLINE };
    }
    const time = Date.parse(answer.headers.get("Date") ?? "") / 1000;
    const { status } = answer;
    if (answer.headers.get("Mks-Reason") === "origin-denied") {
        return { message: words.otherAddress(location.origin), isFinal: true, time };
    }
    if (status === 204) return { message: words.BLOCKED, isTaken: true, time };
    if ([401, 403, 404, 410].includes(status)) {
        return { message: words.REFUSED, isFinal: true, time };
    }
    if (status === 429 || status >= 500) return { message: words.BUSY, time };
    // 426: a token of Nova's own, or a proxy of an earlier release, which cannot tell.
    return { message: status === 426 ? words.DENIED : words.INTERCEPTED, time };
}
