"""The command `python -m sweeps.plan`; see `sweeps.runner.plan`."""

import sys

from al.signals import leave_on_signals

if __name__ == "__main__":
    leave_on_signals()  # while the imports take their second
    from sweeps.runner.plan import main

    sys.exit(main())
