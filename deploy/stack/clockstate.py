"""Whether the kernel's clock is kept by a time service. Source: adjtimex(2)."""

import ctypes
import ctypes.util

UNSYNCHRONISED = 0x0040
TIME_ERROR = 5


class _Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def synchronised() -> bool | None:
    """Whether it is kept; None where the kernel does not say. Changes nothing: modes is 0."""
    found = _Timex()
    library = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    answer = library.adjtimex(ctypes.byref(found))
    if answer < 0:
        return None
    return answer != TIME_ERROR and not found.status & UNSYNCHRONISED
