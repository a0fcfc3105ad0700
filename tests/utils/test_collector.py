import subprocess
import sys

CODE = """
import gc
from aaformer_lit.utils.collector import imports_kept
with imports_kept():
    assert not gc.isenabled()
    import json
kept = gc.get_freeze_count()
with imports_kept():  # the next job of a sweep
    garbage = []
    garbage.append(garbage)
    del garbage
print(gc.isenabled(), kept > 0, gc.get_freeze_count() <= kept, gc.collect() > 0)
"""


def test_what_was_imported_is_kept_once_and_what_a_later_job_leaves_is_collected():
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True"] * 4
