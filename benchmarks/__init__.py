"""What the suite's claims about speed and memory are measured with: `python -m benchmarks --help`.

Nothing of the suite needs it to run.
"""

import sys

from al import threads

if sys.argv[0] == "-m":  # started as a program, `python -m benchmarks.scoring`: Python imports this before the module
    threads.sleep_while_waiting()  # as train.py does; spinning threads on busy cores would be all that is measured
