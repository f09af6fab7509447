"""Threads that ask for a backend of Awkward first. Should: share one. Does: make several; arrays do not mix.

Seen with awkward 2.14.0. A slow constructor stands for that of a backend, which imports its library.
"""

import time
from concurrent.futures import ThreadPoolExecutor

from awkward._backends.numpy import NumpyBackend


class SlowBackend(NumpyBackend):
    """A backend that takes its time."""

    def __init__(self):
        time.sleep(0.2)
        super().__init__()


del NumpyBackend._instance  # as in a new process
with ThreadPoolExecutor(2) as pool:
    made = {id(backend) for backend in pool.map(lambda _: SlowBackend.instance(), range(2))}
print(f"two threads gave {len(made)} instances, should give 1")
if len(made) == 1:
    raise SystemExit("mended: one instance")
