// What binds a session to this browser: a key pair whose private half never leaves it.
//
// The public half goes with the console link, and the proxy writes its thumbprint into the tokens
// that the page reconnects with. A reconnect then proves possession (see mksfilter/auth/proof.py):
// whoever steals such a token cannot use it.

import { keepKey, recallKey } from "./kept.js";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256" };
const SIGNATURE = { name: "ECDSA", hash: "SHA-256" };

const base64url = (bytes) =>
    btoa(String.fromCharCode(...new Uint8Array(bytes)))
        .replaceAll("+", "-")
        .replaceAll("/", "_")
        .replace(/=+$/, "");

/** What a token of the proxy's says; nothing for anything else. Only the proxy can verify it. */
export function claimsOf(token) {
    try {
        const payload = token.split(".")[2].replaceAll("-", "+").replaceAll("_", "/");
        return JSON.parse(atob(payload)) ?? {};
    } catch {
        return {};
    }
}

/**
 * The key pair of this page. Browsers have WebCrypto in secure contexts only (HTTPS, localhost):
 * elsewhere there is no key, the proxy gives no token to reconnect with, and a console that was
 * cut off needs a new link.
 */
export class Binding {
    #pair;
    #publicKey = "";
    // Seconds by which the proxy's clock is ahead of this machine's, which may be anything.
    #ahead = 0;

    /**
     * @param {{key: string, ahead: number}|null} kept the key that this tab has kept; null: a new one
     */
    constructor(kept = null, crypto = globalThis.crypto) {
        if (kept?.key) {
            this.#ahead = Number(kept.ahead) || 0;
            this.#pair = this.#recall(kept.key);
        } else {
            this.#pair = this.#generate(crypto?.subtle);
        }
    }

    /** What `new Binding()` takes. */
    get facts() {
        return { key: this.#publicKey, ahead: this.#ahead };
    }

    /** Keep the key in this browser; resolves to whether that may be. */
    async keep() {
        const pair = await this.#pair;
        if (!pair) return false;
        try {
            await keepKey(this.#publicKey, pair);
            return true;
        } catch {
            return false;
        }
    }

    async #recall(name) {
        this.#publicKey = name;
        try {
            return (await recallKey(name)) ?? null;
        } catch {
            return null;
        }
    }

    async #generate(subtle) {
        if (!subtle) return null;
        try {
            const pair = await subtle.generateKey(ALGORITHM, false, ["sign"]);
            this.#publicKey = base64url(await subtle.exportKey("raw", pair.publicKey));
            return pair;
        } catch (error) {
            console.warn("console: no key for reconnecting:", error);
            return null;
        }
    }

    /** @param {number} now the proxy's clock, seconds since the epoch */
    synchronise(now) {
        if (Number.isFinite(now)) this.#ahead = now - Date.now() / 1000;
    }

    /** Seconds since the epoch by the proxy's clock, as far as it is known. */
    get now() {
        return Date.now() / 1000 + this.#ahead;
    }

    /**
     * The subprotocols to offer beside the token.
     *
     * @param {string} token
     * @param {boolean} resumes whether the token is one to reconnect with
     * @returns {Promise<string[]>}
     */
    async offers(token, resumes) {
        const pair = await this.#pair;
        if (!pair) return [];
        if (!resumes) return [`mks.key.${this.#publicKey}`];
        const time = Math.floor(this.now);
        const text = `mks.proof\n${location.origin}\n${claimsOf(token).jti ?? ""}\n${time}`;
        const signature = await crypto.subtle.sign(
            SIGNATURE,
            pair.privateKey,
            new TextEncoder().encode(text),
        );
        return [`mks.proof.${time}.${this.#publicKey}.${base64url(signature)}`];
    }
}
