"""``python -m mksfilter``."""

import sys

from mksfilter.cli import main

sys.exit(main())
