"""`aaformer_lit.train` of which one rank ends in the second batch of an epoch, and notes when.

DYING="RANK EPOCH kill|raise|defect FILE".
"""

import os
import signal
import time
from pathlib import Path

from aaformer_lit import train
from aaformer_lit.engine.module import ReIDModule
from aaformer_lit.errors import ImageError

rank, epoch, how, note = os.environ["DYING"].split()
step = ReIDModule.training_step


def dying(self, batch, batch_idx):
    if batch_idx == 1 and (str(self.global_rank), str(self.current_epoch)) == (rank, epoch):
        Path(note).write_text(str(time.time()))
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "raise":
            raise ImageError("the image 0001_c1s1.jpg cannot be decoded")
        raise ZeroDivisionError(f"a defect of rank {rank}")
    return step(self, batch, batch_idx)


ReIDModule.training_step = dying
train.main()
