"""The token of a dict of text. Should: be the same in every process. Does: depend on PYTHONHASHSEED.

So do the names of dask-awkward's reductions over partitions. Seen with dask 2025.3.1, dask-awkward 2026.2.1.
"""

import os
import subprocess
import sys

TOKEN = "from dask.base import tokenize; print(tokenize({'reducer': 1, 'axis': 2, 'mask': 3, 'keepdims': 4}))"
tokens = set()
for seed in "12345678":
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    run = subprocess.run([sys.executable, "-c", TOKEN], env=environment, check=True, capture_output=True)
    tokens.add(run.stdout.decode().strip())
print(f"one dict gave {len(tokens)} tokens in eight processes, should give one: {sorted(tokens)}")
if len(tokens) == 1:
    raise SystemExit("mended: one dict, one token")
