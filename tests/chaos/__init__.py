"""Three nodes, two vCenters, hundreds of consoles, one fault after the other: ``make chaos``."""
