"""Machine code that was compiled elsewhere, placed in memory and called.

LLVM costs a process 50 MiB and may end it when it dislikes something. So a child compiles
(compiler.py), tries what it made, prints it and ends; the code is a few KiB that refer to nothing
outside themselves.
"""

import ctypes
import mmap
import os
import subprocess
import sys
from collections.abc import Mapping

import msgspec

from chain.net.shared import address_of

_CHILD_SECONDS = 60


class Unavailable(Exception):
    """This machine cannot compile or run generated code."""


class Function:
    """void f(void *lanes, ssize_t blocks, void *constants). Runs without the GIL."""

    def __init__(self, code: bytes) -> None:
        """Raises Unavailable where memory cannot be made executable."""
        if sys.platform != "linux":
            raise Unavailable(sys.platform)
        try:
            # Written as a file and mapped as one: never writable and executable at once, and the
            # kernel keeps the processor's instruction cache in step.
            file = os.memfd_create("cumulus-hashing")
            try:
                os.write(file, code)
                self._memory = mmap.mmap(
                    file, len(code), mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC
                )
            finally:
                os.close(file)
        except OSError as error:
            raise Unavailable(str(error)) from error
        prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_void_p)
        self._call = prototype(address_of(self._memory))

    def __call__(self, lanes: "ctypes.Array[ctypes.c_void_p]", blocks: int, constants: int) -> None:
        """Hash `blocks` blocks (at least one) of each lane."""
        self._call(ctypes.addressof(lanes), blocks, constants)


def compile_in_child() -> Mapping[str, Mapping[int, bytes]]:
    """Code of the functions by hash and number of lanes. Takes half a second.

    Raises Unavailable: no llvmlite for this Python, or code that is wrong or does not run here.
    """
    command = [sys.executable, "-m", "gateway.hashing.compiler"]
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_CHILD_SECONDS
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").splitlines()
            raise Unavailable(said[-1] if said else f"exit code {done.returncode}")
        return msgspec.msgpack.decode(done.stdout, type=dict[str, dict[int, bytes]])
    except (OSError, subprocess.TimeoutExpired, msgspec.DecodeError) as error:
        raise Unavailable(str(error)) from error
