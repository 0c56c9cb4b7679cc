"""How many bytes a second a number of threads can read from main memory: the roof of decoding on a CPU.

A decoded token reads every weight once, so that tokens per second x bytes of weights cannot exceed it (the roofline
model, Williams et al. 2009), unless the weights fit the caches.
"""

from __future__ import annotations

import statistics
import threading
import time

_BYTES = 64 << 20
_REPEATS = 5


def read_bandwidth_gb_s(threads: int) -> float:
    """Median over a few repeats; each thread sums an array of its own that is larger than common caches."""
    import numpy as np

    arrays = [np.ones(_BYTES // 8, dtype=np.int64) for _ in range(threads)]
    rates = []
    for _ in range(_REPEATS):
        workers = [threading.Thread(target=array.sum) for array in arrays]
        begin = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        rates.append(threads * _BYTES / (time.perf_counter() - begin) / 1e9)
    return statistics.median(rates)
