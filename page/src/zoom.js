// The picture brought nearer, beside noVNC's own scale, which fits it into the window.

const NEAREST = 8;
// Who lets go near to the whole picture means the whole picture.
const SNAP = 1.1;

/** How near the machine's screen is, and which part of it is seen. */
export class Zoom {
    #canvas;
    #scale = 1;
    #x = 0;
    #y = 0;

    /** @param {HTMLCanvasElement} canvas of noVNC, in an element that cuts off what goes beyond */
    constructor(canvas) {
        this.#canvas = canvas;
        canvas.style.transformOrigin = "0 0";
        // A phone is turned, a keyboard comes up.
        new ResizeObserver(() => this.by(0, 0)).observe(canvas.parentElement);
    }

    get scale() {
        return this.#scale;
    }

    /** Bring it to *scale* times, with what is at a point of the window staying there. */
    to(scale, clientX, clientY) {
        const next = scale < SNAP ? 1 : Math.min(scale, NEAREST);
        const box = this.#canvas.getBoundingClientRect();
        this.#x += (clientX - box.left) * (1 - next / this.#scale);
        this.#y += (clientY - box.top) * (1 - next / this.#scale);
        this.#scale = next;
        this.#apply();
    }

    /** Move it by so many pixels of the window. */
    by(x, y) {
        this.#x += x;
        this.#y += y;
        this.#apply();
    }

    #apply() {
        const { style, parentElement: frame, offsetWidth: width, offsetHeight: height } = this.#canvas;
        const isNear = this.#scale > 1;
        style.transform = "";
        frame.style.overflow = isNear ? "hidden" : "auto";
        if (!isNear) {
            this.#x = this.#y = 0;
            return;
        }
        const at = this.#canvas.getBoundingClientRect();
        const window = frame.getBoundingClientRect();
        this.#x = inside(this.#x, at.left - window.left, width * this.#scale, window.width);
        this.#y = inside(this.#y, at.top - window.top, height * this.#scale, window.height);
        style.transform = `translate(${this.#x}px, ${this.#y}px) scale(${this.#scale})`;
    }
}

// Nothing beside the picture is shown while there is picture to show; a smaller one is in the middle.
function inside(shift, start, size, room) {
    if (size <= room) return (room - size) / 2 - start;
    return Math.min(-start, Math.max(room - size - start, shift));
}
