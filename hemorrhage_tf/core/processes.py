"""Environment variables of worker processes, which are read when a process starts."""

from __future__ import annotations

# By default glibc returns the memory of each large array to the system and requests it again, which
# is slow.
KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 28),
}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
