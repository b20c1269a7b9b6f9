"""Where to connect: one module per kind of vSphere console, and the vCenter sessions."""
