// Stands for the parts of noVNC that are left out of the bundle (see ../bundle.js).

/** For RFB's log-in with keys of its own: it asks for a password, as the others do. */
export default class LeftOut extends EventTarget {
    hasStarted = false;

    checkInternalEvents() {}

    disconnect() {}

    negotiateRA2neAuthAsync() {
        this.hasStarted = true;
        const detail = { types: ["username", "password"] };
        this.dispatchEvent(new CustomEvent("credentialsrequired", { detail }));
        return new Promise(() => undefined);
    }
}
