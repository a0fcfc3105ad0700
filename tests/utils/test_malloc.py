"""Kept memory is memory that the system does not have to clear again."""

import subprocess
import sys

import pytest

from aaformer_lit.utils import malloc

LAYERS = """
import resource, sys
from aaformer_lit.utils import malloc
if sys.argv[1] == "kept":
    malloc.keep_freed_memory()

def step():
    # bytes and not tensors: whose small parts, left anywhere on the heap, can keep glibc from trimming it
    layers = [b"1" * 20_000_000 for _ in range(8)]

for _ in range(2):
    step()
if sys.argv[1] == "given back":
    malloc.keep_freed_memory()
    malloc.give_back()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
    if sys.argv[1] == "given back":
        malloc.give_back()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode):
    done = subprocess.run([sys.executable, "-c", LAYERS, mode], capture_output=True, text=True, check=True, timeout=120)
    return int(done.stdout)


@pytest.mark.skipif(malloc._glibc() is None, reason="needs glibc")
def test_a_step_finds_the_memory_of_the_step_before():
    plain, kept, given_back = map(page_faults, ("plain", "kept", "given back"))
    assert kept < plain / 10
    assert given_back > plain / 2


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert malloc._glibc() is None
    malloc.keep_freed_memory()
    malloc.give_back()
