"""Events, memory and recorded work of the CUDA runtime, in the library that polygraphy loaded.

Polygraphy wraps streams, memory and copies; what a measurement needs besides is here. Declarations
are those of `cuda_runtime_api.h`, CUDA 11.4 to 13.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from d2export.errors import EnvironmentMismatch

SUCCESS = 0  # of cudaError_t
THREAD_LOCAL = 1  # of cudaStreamCaptureMode
ADDRESS_LENGTH = 32
INSTALL = "Install the CUDA toolkit's runtime, or: pip install nvidia-cuda-runtime-cu12 (-cu13)"


def require() -> None:
    """Load the CUDA runtime.

    Raises:
        EnvironmentMismatch: there is none, or no polygraphy.
    """
    _library()


def memory() -> tuple[int, int]:
    """Bytes of the GPU's memory that are free, and all of them."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
    return free.value, total.value


def card() -> str:
    """PCI address of the GPU in use, as nvidia-smi takes it."""
    text = ctypes.create_string_buffer(ADDRESS_LENGTH)
    _call("cudaDeviceGetPCIBusId", text, ADDRESS_LENGTH, 0)
    return text.value.decode()


class Event:
    """A point in a stream's work.

    Args:
        stream: address of the stream.
    """

    def __init__(self, stream: int) -> None:
        self._stream = ctypes.c_void_p(stream)
        self._event = ctypes.c_void_p()
        _call("cudaEventCreate", ctypes.byref(self._event))

    def record(self) -> None:
        """Take the time when the stream gets here."""
        _call("cudaEventRecord", self._event, self._stream)

    def since(self, start: Event) -> float:
        """Milliseconds between two points that the stream has passed."""
        milliseconds = ctypes.c_float()
        _call("cudaEventElapsedTime", ctypes.byref(milliseconds), start._event, self._event)
        return milliseconds.value

    def close(self) -> None:
        """Give it back."""
        _call("cudaEventDestroy", self._event)


class Recorded:
    """Work on a stream as a CUDA graph, to be replayed at the cost of one launch.

    Args:
        stream: address of the stream.
        work: puts the work on that stream, and waits for nothing.

    Raises:
        EnvironmentMismatch: it cannot be recorded, and why.
    """

    def __init__(self, stream: int, work: Callable[[], object]) -> None:
        self._stream = ctypes.c_void_p(stream)
        self._graph, self._ready = ctypes.c_void_p(), ctypes.c_void_p()
        _call("cudaStreamBeginCapture", self._stream, THREAD_LOCAL)
        try:
            work()
        except EnvironmentMismatch:
            # A stream that is left recording takes no other work.
            handle = _library()
            handle.cudaStreamEndCapture(self._stream, ctypes.byref(self._graph))
            handle.cudaGetLastError()
            raise
        _call("cudaStreamEndCapture", self._stream, ctypes.byref(self._graph))
        _call(
            "cudaGraphInstantiateWithFlags",
            ctypes.byref(self._ready),
            self._graph,
            ctypes.c_ulonglong(0),
        )

    def replay(self) -> None:
        """Put the work on the stream again."""
        _call("cudaGraphLaunch", self._ready, self._stream)

    def close(self) -> None:
        """Give it back."""
        _call("cudaGraphExecDestroy", self._ready)
        _call("cudaGraphDestroy", self._graph)


def _library() -> Any:
    """The CUDA runtime as polygraphy loaded it."""
    try:
        from polygraphy import cuda
        from polygraphy.exception import PolygraphyException
        from polygraphy.logger import G_LOGGER
    except ImportError:
        raise EnvironmentMismatch(
            "polygraphy is not installed", "Run: pip install 'polygraphy>=0.53'"
        ) from None
    try:
        with G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1):  # it says at length where it looked
            return cuda.wrapper().handle
    except (OSError, PolygraphyException) as error:
        raise EnvironmentMismatch(f"the CUDA runtime is missing: {error}", INSTALL) from None


def _call(function: str, *arguments: object) -> None:
    handle = _library()
    status = getattr(handle, function)(*arguments)
    if status == SUCCESS:
        return
    handle.cudaGetLastError()  # else the next call would report it again
    handle.cudaGetErrorString.restype = ctypes.c_char_p
    reason = handle.cudaGetErrorString(status).decode()
    raise EnvironmentMismatch(
        f"the CUDA runtime's {function} failed with {status}: {reason}",
        "Run nvidia-smi, or on a Jetson tegrastats: is there memory left, and no other program?",
    )
