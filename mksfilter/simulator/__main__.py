"""``python -m mksfilter.simulator``: the same as ``mksfilter simulator``."""

import sys

from mksfilter.cli import main

sys.exit(main(["simulator", *sys.argv[1:]]))
