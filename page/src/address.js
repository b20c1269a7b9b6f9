// What the page is told by its URL, and what stays in the address bar.

import { asName } from "./names.js";

// A language tag (RFC 5646) as far as its form goes, and as long as implementations must take it
// (its section 4.4.1). Some dashboards write `ja_JP`.
const LANGUAGE = /^(?=.{2,35}$)[a-z]{2,8}([-_][a-z0-9]{1,8})*$/i;
// From the root of this origin, with or without its slash: no scheme, no "//host", no backslash.
const SOCKET_PATH = /^\/?([\w.~%-]+\/)*(websockify)?$/;

/**
 * Take all that the URL says, and the token out of the address bar: it must not end up in the
 * history, in a bookmark or on a screenshot.
 *
 * The token is `token`, or stands in `path`, where Nova puts it for noVNC
 * (`path=websockify?token=...`).
 *
 * @returns {{token: string, title: string, language: string, path: string}} empty strings for what
 *     is missing
 */
export function takeAddress(location, history) {
    const query = new URLSearchParams(location.search);
    // As Nova's own proxies do, the last of several counts.
    const last = (fields, name) => fields.getAll(name).at(-1) ?? "";
    const [path, pathQuery] = split(last(query, "path"));
    const token = last(query, "token") || last(new URLSearchParams(pathQuery), "token");
    const title = asName(query.get("title") ?? "");
    const tag = last(query, "language");
    const language = LANGUAGE.test(tag) ? tag.replaceAll("_", "-") : "";
    const rest = new URLSearchParams();
    if (path) rest.set("path", path);
    if (title) rest.set("title", title);
    if (language) rest.set("language", language);
    const text = rest.toString();
    history.replaceState(null, "", location.pathname + (text && `?${text}`));
    return { token, title, language, path };
}

/**
 * Where the console is: beside the page's files, whatever path a load balancer gave them, or at
 * the path that the link names, from the root of this origin.
 *
 * @param {string} script the URL of one of the page's scripts, which are below `static/`
 * @param {string} path of the link; empty: none
 * @returns {string} empty for a path where no console can be
 */
export function socketURL(script, path) {
    const url = new URL(script);
    url.pathname = `${url.pathname.slice(0, url.pathname.lastIndexOf("/static/"))}/websockify`;
    url.search = "";
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    if (path) {
        if (!SOCKET_PATH.test(path)) return "";
        url.pathname = path;
    }
    return url.href;
}

/**
 * Where the console of a link is, and its token.
 *
 * @param {string} link as Nova answers it
 * @returns {{url: string, token: string}}
 * @throws {TypeError} it is no URL of http or https with a token, or names a path where no console is
 */
export function consoleAt(link) {
    const page = new URL(link);
    if (!/^https?:$/.test(page.protocol)) throw new TypeError("a console link begins with https://");
    const { token, path } = takeAddress(page, { replaceState() {} });
    if (!token) throw new TypeError("the console link has no token");
    // A directory whose last slash is missing is one all the same; a page ends in .html.
    if (!/(\/|\.html)$/.test(page.pathname)) page.pathname += "/";
    const url = socketURL(new URL("static/", page).href, path);
    if (!url) throw new TypeError("the console link names a path where no console is");
    return { url, token };
}

function split(text) {
    const at = text.indexOf("?");
    return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}
