// What a tab keeps of its console, so that a reload does not lose it: the token in the tab's own
// storage, and the key that goes with it, which no script can read, in the browser's database.

const NAME = "mksfilter";
const KEYS = "keys";
// Milliseconds after which a key is forgotten; no session lasts as long.
const LONGEST = 8 * 86_400_000;

// Frames of one tab have one storage.
const place = () => `${NAME}:${location.pathname}${location.search}`;

/**
 * What `keep` has kept in this tab for the page's address.
 *
 * @returns {{token: string, resumes: boolean, key: string, ahead: number}|null}
 */
export function recall() {
    try {
        const kept = JSON.parse(sessionStorage.getItem(place()));
        return typeof kept?.token === "string" ? kept : null;
    } catch {
        return null;
    }
}

/** Keep *facts*; false where storage is refused, as in a frame of another site. */
export function keep(facts) {
    try {
        sessionStorage.setItem(place(), JSON.stringify(facts));
        return true;
    } catch {
        return false;
    }
}

export function forget() {
    try {
        sessionStorage.removeItem(place());
    } catch {
        // Nothing was kept either.
    }
}

/** Keep a key pair whose private half cannot be exported. Rejects where storage is refused. */
export async function keepKey(name, pair) {
    const now = Date.now();
    await inStore("readwrite", (store) => {
        store.put({ pair, time: now }, name);
        const each = store.openCursor();
        each.onsuccess = () => {
            const cursor = each.result;
            if (!cursor) return;
            if (Math.abs(now - cursor.value.time) > LONGEST) cursor.delete();
            cursor.continue();
        };
    });
}

/** The key pair that was kept as *name*; undefined without one. */
export async function recallKey(name) {
    return (await inStore("readonly", (store) => store.get(name)))?.pair;
}

async function inStore(mode, use) {
    const database = await new Promise((done, failed) => {
        const opening = indexedDB.open(NAME, 1);
        opening.onupgradeneeded = () => opening.result.createObjectStore(KEYS);
        opening.onsuccess = () => done(opening.result);
        opening.onerror = () => failed(opening.error);
    });
    try {
        return await new Promise((done, failed) => {
            const transaction = database.transaction(KEYS, mode);
            const request = use(transaction.objectStore(KEYS));
            transaction.oncomplete = () => done(request?.result);
            transaction.onerror = transaction.onabort = () => failed(transaction.error);
        });
    } finally {
        database.close();
    }
}
