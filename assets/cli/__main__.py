"""`python -m assets.cli` is `vjepa2`."""

import sys

from assets.cli import main

sys.exit(main())
