"""How a replica's memory is handed out: what a picture needed is kept for the next one."""

import ctypes

# Of glibc's <malloc.h>.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_MMAP_THRESHOLD = 4 * 2**20 * ctypes.sizeof(ctypes.c_long)  # what glibc takes at most
KEPT_BYTES = 2**29


def keep_freed() -> None:
    """Has glibc keep freed memory instead of giving it back after each picture, and asking for it again page by page
    (thousands of page faults). Does nothing with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
