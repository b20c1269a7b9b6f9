// Why a WebSocket did not open: browsers do not tell a page, so the page asks over plain HTTP.

/**
 * @param {string} url of the WebSocket
 * @param {string} token that was refused with it
 * @returns {Promise<{key: string, facts?: object, isFinal?: boolean, isTaken?: boolean, time?: number}>}
 *     `key`: of the words for it; `isFinal`: the token opens nothing any more; `isTaken`: it would open a console; `time`:
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
        return { key: navigator.onLine ? "unreachable" : "offline" };
    }
    const time = Date.parse(answer.headers.get("Date") ?? "") / 1000;
    const { status } = answer;
    if (answer.headers.get("Mks-Reason") === "origin-denied") {
        const facts = { origin: location.origin };
        return { key: "other-address", facts, isFinal: true, time };
    }
    if (status === 204) return { key: "blocked", isTaken: true, time };
    if ([401, 403, 404, 410].includes(status)) {
        return { key: "refused", isFinal: true, time };
    }
    if (status === 429 || status >= 500) return { key: "takes-nobody", time };
    // 426: a token of Nova's own, or a proxy of an earlier release, which cannot tell.
    return { key: status === 426 ? "not-accepted" : "intercepted", time };
}
