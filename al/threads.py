"""How OpenMP's threads wait for each other. Imports nothing heavy: it must come before torch is loaded."""

import os

CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""What a user may have set, for GNU's OpenMP and LLVM's."""


def sleep_while_waiting() -> None:
    """Have OpenMP's threads sleep while they wait, unless the user has said how they wait.

    As they come they spin, which takes the processor from the thread that they wait for as soon as anything else runs
    on the machine. 20 epochs of digits on two busy cores: 132 and 49 s spinning, 33 and 35 s sleeping. OpenMP reads
    the variable when it is loaded, so this has to be called before torch is imported.
    """
    if not any(name in os.environ for name in CHOICES):
        os.environ["OMP_WAIT_POLICY"] = "passive"
