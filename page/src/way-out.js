// While the machine has the keyboard every key goes to it, Tab included; Ctrl + Alt + Shift is the
// way out (WCAG 2.1.2, no keyboard trap).

/** Tells the chord from AltGr with Shift, which writes letters, such as Polish Ł. */
export class WayOut {
    #altGr = false;

    /** @param {EventTarget} target whose keyboard events will be asked about */
    constructor(target) {
        const up = (event) => {
            if (event.type === "blur" || event.code === "AltRight") this.#altGr = false;
        };
        target.addEventListener("keyup", up, { capture: true });
        window.addEventListener("blur", up);
    }

    /** Whether this `keydown` is the last one of the chord. */
    isTaken(event) {
        if (event.code === "AltRight") this.#altGr = true;
        // Windows tells AltGr as Ctrl and Alt.
        return (
            event.ctrlKey && event.altKey && event.shiftKey &&
            !this.#altGr && !event.getModifierState("AltGraph") &&
            ["Control", "Alt", "Shift", "Meta"].includes(event.key)
        );
    }
}
