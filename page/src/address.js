// What the page is told by its URL, and what stays in the address bar.

const TITLE_LENGTH = 255;

/**
 * Take the token and the title out of the URL, and the token out of the address bar: it must not
 * end up in the history, in a bookmark or on a screenshot.
 *
 * @returns {{token: string, title: string}} empty strings for what is missing
 */
export function takeAddress(location, history) {
    const query = new URLSearchParams(location.search);
    // As Nova's own proxies do, the last of several counts.
    const token = query.getAll("token").at(-1) ?? "";
    const title = (query.get("title") ?? "").slice(0, TITLE_LENGTH).trim();
    const rest = new URLSearchParams(title ? { title } : {}).toString();
    history.replaceState(null, "", location.pathname + (rest && `?${rest}`));
    return { token, title };
}

/** Where the console is: beside this page, whatever path a load balancer gave it. */
export function socketURL(location) {
    const url = new URL("websockify", location.origin + location.pathname);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    return url.href;
}
