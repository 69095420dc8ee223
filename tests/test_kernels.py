"""The numerical tests under every matrix kernel that this processor has, not only under the one it would choose.

OpenBLAS and oneDNN choose their kernels by processor, and these round differently: what passes here may fail on another
machine. The quick form runs with all tests, the whole one by `make test-kernels`.
"""

import os
import signal
import subprocess
import sys

import launch
import pytest

QUICK = [("OPENBLAS_CORETYPE", name) for name in ("Nehalem", "Haswell", "SkylakeX")] + [("ONEDNN_MAX_CPU_ISA", "SSE41")]
OTHERS = [("OPENBLAS_CORETYPE", "Sandybridge"), ("OPENBLAS_CORETYPE", "Zen")]
OTHERS += [("ONEDNN_MAX_CPU_ISA", name) for name in ("AVX2", "AVX512_CORE")]
PROBE = "import numpy as np; x = np.ones((300, 300), np.float32); x @ x; x @ x[0]; x.astype(float) @ x"


def under(variable, kernel, *arguments):
    environment = os.environ | {variable: kernel, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=launch.ROOT, env=environment, capture_output=True, text=True)


def passes(variable, kernel, *tests):
    """Run these tests in a process that uses this kernel."""
    if under(variable, kernel, "-c", PROBE).returncode == -signal.SIGILL:
        pytest.skip(f"this processor has no {kernel}")
    options = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    done = under(variable, kernel, *options, *tests)
    assert done.returncode == 0, f"{variable}={kernel}\n{done.stdout[-6000:]}{done.stderr[-2000:]}"


@pytest.mark.parametrize(("variable", "kernel"), QUICK)
def test_what_rounding_decides_first(variable, kernel):
    openblas = variable == "OPENBLAS_CORETYPE"
    passes(variable, kernel, f"tests/al/{'strategies/test_clustering' if openblas else 'fast/test_convolutions'}.py")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("variable", "kernel"), QUICK + OTHERS)
def test_all_that_is_numerical(variable, kernel):
    passes(variable, kernel, "tests/al/strategies", "tests/al/fast", "tests/al/learning")
