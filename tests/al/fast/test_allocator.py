"""Memory on a CPU: asked of the C library where it can be asked, and never an error where it cannot."""

from types import SimpleNamespace

import pytest

from al.fast import allocator
from al.fast.allocator import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
from al.runtime import resolve_runtime


@pytest.fixture
def library(monkeypatch):
    """library(highest): a C library whose mallopt takes thresholds up to that; the calls that it took."""

    def with_limit(highest):
        taken = {}

        def mallopt(parameter, value):
            if parameter == M_MMAP_THRESHOLD and value > highest:
                return 0
            taken[parameter] = value
            return 1

        monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
        return taken

    return with_limit


@pytest.mark.parametrize(("highest", "expected"), [(2**40, 2**30), (2**25, 2**25)])
def test_large_blocks_are_kept(library, highest, expected):
    taken = library(highest)
    resolve_runtime("cpu")
    assert taken[M_MMAP_THRESHOLD] == expected
    assert taken[M_TRIM_THRESHOLD] > 2**30


def test_a_library_that_refuses_is_left_as_it_is(library):
    taken = library(0)
    resolve_runtime("cpu")
    assert taken == {}


@pytest.mark.parametrize("raised", [AttributeError, OSError, TypeError])
def test_other_systems_have_no_such_call(monkeypatch, raised):
    def no_library(name):
        raise raised("no mallopt here")

    monkeypatch.setattr(allocator.ctypes, "CDLL", no_library)
    assert resolve_runtime("cpu").on_cpu


def test_is_left_as_it_is_where_asked(library, monkeypatch):
    taken = library(2**40)
    monkeypatch.setenv("AL_FAST", "-allocator")
    resolve_runtime("cpu")
    assert taken == {}
