"""Use an installed wheel as a program does: threads, a fork after them, and PyTorch's threads in the process.

Usage: python .ci/smoke.py [torch]
"""

import os
import sys

import numpy as np

import fastdrop

x = np.ones(2**22, np.float32)
one = fastdrop.dropout(x, 0.3, seed=7, num_threads=1)


def check(number: int) -> None:
    assert fastdrop.dropout(x, 0.3, seed=7, num_threads=2).tobytes() == one.tobytes(), number


check(1)
if "torch" in sys.argv[1:]:
    import torch

    a = torch.ones(512, 512)
    assert torch.mm(a, a)[0, 0] == 512  # PyTorch's runtime starts its threads
    check(2)
child = os.fork()
if not child:
    check(3)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(f"Python {sys.version.split()[0]}:", fastdrop.config(), *sys.argv[1:])
