"""The command `python -m sweeps.launch`; see `sweeps.runner.launch`."""

import sys

from sweeps.runner.launch import main

if __name__ == "__main__":
    sys.exit(main())
