"""An engine in memory, run by polygraphy's TrtRunner.

Inputs are copied to the GPU, or lie there already; outputs stay there until they are read. Nothing
of TensorRT or polygraphy is imported before an engine is opened.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from d2export.engine import cuda_runtime
from d2export.engine.tensorrt_log import Log
from d2export.errors import BundleError, UsageError

Array = npt.NDArray[Any]
LEAST, LARGEST = 0, 2  # of the shapes of a profile
UNKNOWN_SIZE = -1


class Engine:
    """An engine and its one context; what a run of it takes on the GPU is kept for the next.

    Args:
        trt: TensorRT's module, with the plugin loaded.
        file: the engine.
        log: what TensorRT says.
        host_code: whether code inside the engine may run on the CPU: of a plugin that was put
            into it.

    Raises:
        EnvironmentMismatch: TensorRT cannot read or run it, or the CUDA runtime is missing.
        BundleError: there is no such file.
    """

    def __init__(self, trt: Any, file: Path, log: Log, *, host_code: bool = False) -> None:
        cuda_runtime.require()
        from polygraphy import cuda
        from polygraphy.backend.trt import TrtRunner
        from polygraphy.datatype import DataType

        self.file, self._trt, self._log, self._cuda = file, trt, log, cuda
        self._runtime = trt.Runtime(log.logger)
        self._runtime.engine_host_code_allowed = host_code
        self._engine = self._deserialized(file)
        if self._engine is None:
            raise log.failure(
                f"TensorRT {trt.__version__} cannot read the engine {file}",
                hint="Build it here: d2export build BUNDLE --target auto",
            )
        self.bytes = file.stat().st_size
        self._runner = TrtRunner(self._engine)
        with self._explained("cannot run"):
            self._runner.activate()
        self._buffers: dict[str, Any] = {}  # of inputs that come from the host
        weakref.finalize(self, _close, self._runner, self._buffers)
        self._profile = 0
        self._last: dict[str, Any] = {}
        self._limits: dict[tuple[str, int], tuple[tuple[int, ...], tuple[int, ...]]] = {}
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        given = trt.TensorIOMode.INPUT
        self.inputs = tuple(n for n in names if self._engine.get_tensor_mode(n) == given)
        self.outputs = tuple(n for n in names if n not in self.inputs)
        self._types = {
            name: DataType.from_dtype(self._engine.get_tensor_dtype(name), "tensorrt")
            for name in names
        }

    def _deserialized(self, file: Path) -> Any:
        """TensorRT's engine; None if it cannot read it.

        The file is mapped, not read: on a Jetson a copy would take the GPU's memory.
        """
        try:
            with file.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as content:
                return self._runtime.deserialize_cuda_engine(content)
        except (OSError, ValueError) as error:  # missing, unreadable, empty
            raise BundleError(
                f"the engine {file} cannot be read: {error}", "Build the engines again."
            ) from None

    @property
    def profiles(self) -> int:
        """How many optimization profiles it has."""
        return int(self._engine.num_optimization_profiles)

    @property
    def stream(self) -> int:
        """Address of the stream that it runs on."""
        return int(self._runner.stream.ptr)

    @property
    def output_memory(self) -> MutableMapping[str, Any]:
        """Where the next run's outputs go, by name: memory on the GPU, which grows as it must."""
        buffers: MutableMapping[str, Any] = self._runner.output_allocator.buffers
        return buffers

    @property
    def activation_bytes(self) -> int:
        """Memory on the GPU for what lies between inputs and outputs."""
        for name in ("device_memory_size_v2", "device_memory_size"):  # from 10.1 on; before
            size = getattr(self._engine, name, None)
            if size is not None:
                return int(size)
        raise AssertionError("every TensorRT has one of the two")

    def new_memory(self, size: int) -> Any:
        """Memory on the GPU, of so many bytes and at least one.

        Raises:
            EnvironmentMismatch: there is not so much left.
        """
        with self._explained("gets no memory for"):
            return self._cuda.DeviceArray.raw((max(size, 1),))

    def grow(self, memory: Any, size: int) -> None:
        """Make memory on the GPU as large as that; what was in it is lost.

        Raises:
            EnvironmentMismatch: there is not so much left.
        """
        with self._explained("gets no memory for"):
            memory.resize((size,))

    def run(self, feeds: Mapping[str, Any], profile: int = 0) -> dict[str, Any]:
        """The outputs for named inputs, on the GPU; they hold until the next run.

        Args:
            feeds: arrays, or what an engine put on the GPU. Inputs that the engine does not have
                are left out.

        Raises:
            UsageError: an input is smaller or larger than the profile allows.
            EnvironmentMismatch: TensorRT cannot run the engine on them.
        """
        for name in self.inputs:
            self._check_shape(name, tuple(feeds[name].shape), profile)
        with self._explained("cannot run"):
            if profile != self._profile:
                self._runner.set_profile(profile)
                self._profile = profile
            # Kept for `again`: the context has only addresses.
            self._last = {name: self._placed(name, feeds[name]) for name in self.inputs}
            found = self._runner.infer(self._last, check_inputs=False, copy_outputs_to_host=False)
        return dict(found)

    def again(self) -> None:
        """Put the last run on the stream once more, on the same inputs; it is not waited for.

        Raises:
            EnvironmentMismatch: TensorRT cannot run it.
        """
        if not self._runner.context.execute_async_v3(self.stream):
            raise self._log.failure(f"TensorRT {self._trt.__version__} cannot run {self.file}")

    def wait(self) -> None:
        """Until the stream has done its work."""
        with self._explained("cannot run"):
            self._runner.stream.synchronize()

    def read(self, name: str, output: Any) -> Array:
        """An output of a run in the host's memory; bfloat16 as float32."""
        numbers = np.empty(output.nbytes, np.uint8)
        with self._explained("cannot run"):
            self._cuda.wrapper().memcpy(
                dst=numbers.ctypes.data,
                src=output.ptr,
                nbytes=output.nbytes,
                kind=self._cuda.MemcpyKind.DeviceToHost,
            )
        if self._types[name].name == "bfloat16":
            wide = numbers.view(np.uint16).astype(np.uint32) << 16
            found: Array = wide.view(np.float32)
        else:
            found = numbers.view(self._types[name].numpy())
        return found.reshape(output.shape)

    def outputs_unknown_before(self) -> tuple[str, ...]:
        """Outputs of the last run whose shapes depended on the inputs' numbers."""
        shape = self._runner.context.get_tensor_shape
        return tuple(name for name in self.outputs if UNKNOWN_SIZE in tuple(shape(name)))

    @contextmanager
    def profiled(self, note: Callable[[str, float], None]) -> Iterator[None]:
        """Within it each run waits, and notes each layer's name and milliseconds."""

        class Profiler(self._trt.IProfiler):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                note(layer_name, ms)

        profiler = Profiler()  # a context does not keep it
        self._runner.context.profiler = profiler
        try:
            yield
        finally:
            self._runner.context.profiler = None

    def _check_shape(self, name: str, shape: tuple[int, ...], profile: int) -> None:
        if (name, profile) not in self._limits:
            shapes = self._engine.get_tensor_profile_shape(name, profile)
            self._limits[name, profile] = tuple(shapes[LEAST]), tuple(shapes[LARGEST])
        low, high = self._limits[name, profile]
        fits = len(low) == len(shape) and all(
            a <= size <= b for a, size, b in zip(low, shape, high, strict=True)
        )
        if not fits:
            raise UsageError(
                f"{name} has shape {list(shape)}, the engine {self.file.name} takes {list(low)} to "
                f"{list(high)}",
                "Use fewer or smaller pictures, or a shorter prompt; docs/engines.md has the sizes "
                "that engines are built for.",
            )

    def _placed(self, name: str, value: Any) -> Any:
        """An input where the engine wants it: on the GPU, or, if it is a shape, on the host."""
        if not isinstance(value, np.ndarray):
            return value
        array = self._typed(name, value)
        if self._engine.is_shape_inference_io(name):
            return array
        if name not in self._buffers:
            # TensorRT wants an address of an empty tensor, too.
            self._buffers[name] = self.new_memory(array.nbytes)
        buffer = self._buffers[name]
        buffer.resize((max(array.nbytes, 1),))
        buffer.copy_from(array.reshape(-1).view(np.uint8), self._runner.stream)
        return self._cuda.DeviceView(buffer.ptr, array.shape, self._types[name])

    def _typed(self, name: str, array: Array) -> Array:
        """In the type of the engine: numpy has no bfloat16, and TensorRT 8 no int64."""
        wanted = self._types[name]
        if wanted.name == "bfloat16":
            bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
            rounded = bits + (0x7FFF + (bits >> 16 & 1))  # to the nearest, ties to even
            return (rounded >> 16).astype(np.uint16)
        if array.dtype == np.int64 and wanted.name == "int32":
            limits = np.iinfo(np.int32)
            assert array.size == 0 or limits.min <= array.min() <= array.max() <= limits.max, name
        return np.ascontiguousarray(array, wanted.numpy())

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Turns polygraphy's exceptions into ours, with what TensorRT said."""
        from polygraphy.exception import PolygraphyException
        from polygraphy.logger import G_LOGGER

        try:
            with G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1):
                yield
        except PolygraphyException as error:
            # What TensorRT said is the reason; polygraphy says where it was printed.
            said = [] if self._log.errors else str(error).splitlines()
            raise self._log.failure(
                f"TensorRT {self._trt.__version__} {what} {self.file}", said
            ) from None


def free(memory: Iterable[Any]) -> None:
    """Give back memory on the GPU; after a failure of the GPU it is gone with the process."""
    from polygraphy.exception import PolygraphyException
    from polygraphy.logger import G_LOGGER

    with G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1), suppress(PolygraphyException):
        for one in memory:
            one.free()


def _close(runner: Any, buffers: dict[str, Any]) -> None:
    """Give back all that an engine has on the GPU."""
    from polygraphy.exception import PolygraphyException
    from polygraphy.logger import G_LOGGER

    free([*buffers.values(), *runner.output_allocator.buffers.values()])
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1), suppress(PolygraphyException):
        runner.deactivate()
