"""The door to the labelling of one's own images; all of it is in the room `labelling`."""

import sys

if __name__ == "__main__":
    from labelling.commands import main

    sys.exit(main())
