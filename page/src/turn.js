// Which tab of this browser has a console: the one in which its user asked for it last. The others
// say so and wait to be asked, so that no two tabs end each other's console for ever.
//
// The browser's own locks settle it: they go with a tab that is closed or crashes.

import { claimsOf } from "./binding.js";

// Milliseconds for a tab to leave by itself; one that is frozen does not.
const PATIENCE = 2_000;

/** Events: `lost` (another tab asks for the console: close it, then call `release()`). */
export class Turn extends EventTarget {
    /** Another tab had the console, and its connection may be a moment behind. */
    moved = false;
    #letGo = null;
    #others = null;

    /** Have the console of *token* here; resolves when no other tab has it. */
    async take(token) {
        const { iid, uid = "" } = claimsOf(token);
        if (!iid || this.#letGo || !navigator.locks) return;
        const name = `mksfilter:${uid}:${iid}`;
        try {
            this.#listen(name);
            this.moved = !(await this.#hold(name, { ifAvailable: true }));
            if (!this.moved) return;
            this.#others.postMessage("leave");
            await this.#hold(name, { signal: AbortSignal.timeout(PATIENCE) }).catch(() =>
                this.#hold(name, { steal: true }),
            );
        } catch {
            // Refused, as in a frame of another site. The proxy and the machine have limits too.
        }
    }

    /** Another tab may have it. */
    release() {
        this.#letGo?.();
        this.#letGo = null;
    }

    #listen(name) {
        if (this.#others) return;
        this.#others = new BroadcastChannel(name);
        this.#others.onmessage = () => {
            if (this.#letGo) this.dispatchEvent(new Event("lost"));
        };
    }

    // Resolves to whether it is ours now.
    #hold(name, options) {
        return new Promise((decided, refused) => {
            let isOurs = false;
            navigator.locks
                .request(name, options, (lock) => {
                    isOurs = Boolean(lock);
                    decided(isOurs);
                    return isOurs && new Promise((letGo) => (this.#letGo = letGo));
                })
                .catch((error) => {
                    if (!isOurs) return refused(error);
                    this.#letGo = null;
                    this.dispatchEvent(new Event("lost"));
                });
        });
    }
}
