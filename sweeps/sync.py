"""The command `python -m sweeps.sync`; see `sweeps.runner.sync`."""

import sys

from sweeps.runner.sync import main

if __name__ == "__main__":
    sys.exit(main())
