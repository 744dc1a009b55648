"""What a process takes from itself before it opens a file that somebody sent."""

import contextlib
import ctypes
import os
import resource
import signal
import sys

import msgspec

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """How much a child process may use. What it takes more is an error to it, or its end."""

    memory_bytes: int
    cpu_s: int
    file_bytes: int
    """Of one file that it writes."""
    files: int = 64
    niceness: int = 0


def confine(allowance: Allowance) -> None:
    """Give up what the work does not need: the network, more memory, time, files, and outliving the parent.

    Call it before threads are started. Where the system does not allow a part of it (namespaces are often forbidden
    inside containers, and are Linux only), the rest still holds.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        with contextlib.suppress(OSError):
            os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNET)  # a network with nothing in it
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, allowance.cpu_s),
        (resource.RLIMIT_FSIZE, allowance.file_bytes),
        (resource.RLIMIT_NOFILE, allowance.files),
        (resource.RLIMIT_AS, allowance.memory_bytes),
    ):
        _, hard = resource.getrlimit(what)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS has no limit of address space
            resource.setrlimit(what, (limit, limit))
    # A write past RLIMIT_FSIZE is then an error and not the end.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if allowance.niceness:
        os.nice(allowance.niceness)
