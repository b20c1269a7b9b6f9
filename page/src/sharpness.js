// Pixels of the machine stay sharp where each is a whole number of the display's; in between,
// smoothing keeps every line of a text as wide as its neighbour.

// Of a pixel: sizes in CSS pixels are fractions on a display of high density.
const TOLERANCE = 0.01;

/** Mark the screen in *stage* as `sharp` whenever its scale is a whole number. */
export function keepSharp(stage) {
    let screen = null;

    function judge() {
        const scale = (screen.getBoundingClientRect().width * devicePixelRatio) / screen.width;
        const whole = Math.round(scale);
        screen.classList.toggle("sharp", whole >= 1 && Math.abs(scale - whole) < TOLERANCE);
    }

    const sizes = new ResizeObserver(judge);
    const resolutions = new MutationObserver(judge);
    new MutationObserver(() => {
        const found = stage.querySelector("canvas:not(.still)");
        if (found === screen) return;
        sizes.disconnect();
        resolutions.disconnect();
        screen = found;
        if (!screen) return;
        sizes.observe(screen);
        resolutions.observe(screen, { attributeFilter: ["width", "height"] });
    }).observe(stage, { childList: true, subtree: true });
}
