// What the page remembers between visits, where the browser lets it.

/** The value saved under *name*; empty without one, and where storage is refused. */
export function load(name) {
    try {
        return localStorage.getItem(name) ?? "";
    } catch {
        return "";
    }
}

/** Save *value*, if storage may be used. */
export function save(name, value) {
    try {
        localStorage.setItem(name, value);
    } catch {
        // In a frame of another site, or with storage switched off: chosen anew next time.
    }
}
