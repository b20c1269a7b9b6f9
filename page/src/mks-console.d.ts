// <mks-console>, version 1. What stands here stays as it is under static/v1/; more may come.

/** Where a console is in its life. `waiting`: it comes back by itself. */
export type ConsoleState = "idle" | "connecting" | "connected" | "waiting" | "ended";

/** Of the machine, as far as its console tells. */
export type PowerState = "unknown" | "on" | "off" | "suspended";

/** The layout that the machine's own keyboard has. */
export type KeyboardLayout =
    | "us" | "us-intl" | "uk" | "be" | "dk" | "de" | "fi" | "fr" | "it" | "jp" | "no" | "pl" | "pt"
    | "es" | "se" | "ch-de" | "ch-fr";

export interface TypingOptions {
    /** A pause after each key, for firmware that drops keys. */
    slow?: boolean;
    /** Stops the typing. */
    signal?: AbortSignal;
}

export interface TypingResult {
    /** Characters that the host has answered. */
    typed: number;
    total: number;
    /** Why it ended: all typed, stopped, connection lost, or the host does not answer. */
    why: "done" | "stopped" | "cut" | "silent";
}

export interface MksConsoleEventMap {
    /** `reason` is one of docs/errors.md or a word of the page's; `message` is for people. */
    state: CustomEvent<{ state: ConsoleState; reason: string; message: string; canRetry: boolean }>;
    power: CustomEvent<{ powerState: PowerState }>;
    /** The machine's name, as vCenter has it. Plain text: never put it into markup. */
    name: CustomEvent<{ name: string }>;
    /** The session ends in so many seconds. */
    lifetime: CustomEvent<{ seconds: number }>;
    /** What the machine waits to be told in vCenter, while it stands still; empty: no more. Plain text. */
    question: CustomEvent<{ text: string }>;
    /** To the console server and back. */
    beat: CustomEvent<{ milliseconds: number }>;
    /** So many characters of `sendText` have been typed. */
    typed: CustomEvent<{ typed: number; total: number }>;
    /** Ctrl + Alt + Shift: the keyboard is the page's again. */
    leave: CustomEvent<Record<string, never>>;
}

export class MksConsole extends HTMLElement {
    readonly state: ConsoleState;
    readonly powerState: PowerState;
    readonly name: string;
    readonly viewOnly: boolean;
    /** The picture fits the element; else it has its own size. */
    fit: boolean;
    /** For text; preset from the browser's languages. An unknown one throws RangeError. */
    layout: KeyboardLayout;
    /** For text: what dead keys and AltGr give differs. */
    system: "linux" | "windows";

    /**
     * Open a console, and leave the one that is open.
     *
     * @param link the console link, as Nova has answered it
     * @throws TypeError it is no URL of http or https with a token
     */
    connect(link: string): void;
    /** Connect now instead of later, or once more after an end that may be retried. */
    reconnect(): void;
    disconnect(): void;
    /**
     * Press keys together, and release them in reverse.
     *
     * @param codes of `KeyboardEvent.code`, such as `"ControlLeft", "AltLeft", "Delete"`
     * @throws RangeError a name that is no key's
     * @throws DOMException InvalidStateError, NotAllowedError: no console is open; it is view-only
     */
    sendKeys(...codes: string[]): void;
    /**
     * Type text, no faster than the machine reads it.
     *
     * Rejects with RangeError before anything is typed when the layout lacks a character, else as
     * `sendKeys` throws.
     */
    sendText(text: string, options?: TypingOptions): Promise<TypingResult>;
    /** The machine's own pixels, as PNG. Rejects with InvalidStateError: no console is open. */
    screenshot(): Promise<Blob>;

    addEventListener<K extends keyof MksConsoleEventMap>(
        type: K,
        listener: (this: MksConsole, event: MksConsoleEventMap[K]) => unknown,
        options?: boolean | AddEventListenerOptions,
    ): void;
    addEventListener(
        type: string,
        listener: EventListenerOrEventListenerObject,
        options?: boolean | AddEventListenerOptions,
    ): void;
}

declare global {
    interface HTMLElementTagNameMap {
        "mks-console": MksConsole;
    }
}
