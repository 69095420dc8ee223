"""The command `python -m sweeps.local`; see `sweeps.runner.local`."""

import sys

from sweeps.runner.local import main

if __name__ == "__main__":
    sys.exit(main())
