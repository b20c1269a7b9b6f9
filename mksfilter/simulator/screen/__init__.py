"""The screen of a VM: what is on it, and RFB, by which it is shown."""
