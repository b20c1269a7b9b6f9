"""Who may connect: token codec, key repository, once-only guard, stock Nova tokens."""
