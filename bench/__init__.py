"""Measurements of cjtasks beside other tools; each module runs by itself and prints a table."""

import os

# The libraries read these when they are imported: one thread for each tool, so that all are measured alike.
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")
