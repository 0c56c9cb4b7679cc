"""The evaluation of one cell: requests, results that survive a kill, loss on references, metrics."""
