"""An ESXi host's consoles: WebMKS, authd, and what runs over their streams."""
