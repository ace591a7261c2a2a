"""What a run needs to know about the machine: device, threads, memory and what it does not hold, free disk."""

import ctypes
import math
import mmap
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import torch
from torch.utils.weak import WeakIdKeyDictionary

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

DEVICES = ("auto", "cpu", "cuda")
# of all memory that the processes of a container may have together: bytes, or "max"
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
# microseconds of processor time that they may have in so many microseconds: two numbers, or "max" and one
CONTAINER_QUOTA = Path("/sys/fs/cgroup/cpu.max")

# parameters of glibc's mallopt, and the largest number it takes
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
LARGEST = 2**31 - 1


class DeviceError(RuntimeError):
    """The requested device does not exist; the message names those that do."""


def resolve_device(name: str = "auto") -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N`` to a device that exists.

    Raises:
        DeviceError: another name, or a GPU that this machine (or this build of torch) does not have.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,2})?", name):
        raise DeviceError(f"unknown device {name!r}; choose one of: {', '.join(DEVICES)}")
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    number = int(name.partition(":")[2] or 0)
    if not available or number >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} GPUs" if available else "no usable GPU"
        raise DeviceError(
            f"device {name!r} is not available: torch {torch.__version__} finds {found}; use cpu or auto"
        )
    return torch.device(name)


def worker_devices() -> list[str]:
    """One entry a worker: every GPU, or the CPU where there is none."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [f"cuda:{i}" for i in range(count)] or ["cpu"]


def device_name(device: torch.device) -> str:
    """For people: ``cpu`` or ``cuda (NVIDIA ...)``."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def usable_cores() -> int:
    """Cores that this process may use: a container often sees more, by its set of cores or by its share of time."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = CONTAINER_QUOTA.read_text().split()
    except (OSError, ValueError):
        return cores
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return cores  # "max"
    return max(1, min(cores, math.ceil(int(quota) / int(period))))


def set_threads() -> int:
    """Let torch use the cores this process may use, unless ``OMP_NUM_THREADS`` sets their number."""
    if "OMP_NUM_THREADS" not in os.environ:
        cores = usable_cores()
        if torch.get_num_threads() != cores:
            torch.set_num_threads(cores)
    return torch.get_num_threads()


def reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mb(device: torch.device) -> float | None:
    """Largest memory so far in MiB: on a GPU since the last reset, else of the whole process's life."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, but bytes on macOS
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def memory_bytes(device: torch.device) -> int | None:
    """All memory of a GPU, or that this process may have; ``None`` where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if not hasattr(os, "sysconf"):  # Windows
        return None
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = CONTAINER_LIMIT.read_text().strip()
    except OSError:
        return physical
    return min(physical, int(limit)) if limit.isdigit() else physical


def settle_arithmetic(device: torch.device) -> None:
    """On a GPU: kernels that give the same numbers each time, and matrix products in TF32, as its convolutions are.

    An operation that has no such kernel warns and runs all the same. No kernel is chosen by timing it: the choice, and
    with it the last digits, would change from run to run.
    """
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    torch.use_deterministic_algorithms(True, warn_only=True)
    # nothing here reads memory that it did not write
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.set_float32_matmul_precision("high")


def keep_memory() -> None:
    """Let freed memory be used again instead of going back to the system at once, where the C library is glibc.

    A training step otherwise asks for all its memory anew, page by page: a quarter of its time on a CPU.
    """
    change = getattr(_c_library(), "mallopt", None)
    if change:
        change(M_MMAP_THRESHOLD, LARGEST)
        change(M_TRIM_THRESHOLD, LARGEST)


def release_memory() -> None:
    """Give unused memory back, after a run that may have ended in the middle of anything."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim:
        trim(0)


def _c_library() -> ctypes.CDLL | None:
    """The C library of this process; Windows has none of that name."""
    return ctypes.CDLL(None) if os.name == "posix" else None


def free_disk_gb(folder: Path) -> float:
    """Free space in GiB where ``folder`` is or would be."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 2**30


# -- tensors that memory does not hold ----------------------------------------------------------------

PART_OF_MEMORY = 4  # a tensor larger than all memory divided by this lies in a file
_NO_RESERVE = (
    0x4000 if sys.platform == "linux" else 0
)  # MAP_NORESERVE: more may be mapped than there is memory
_files = WeakIdKeyDictionary()  # a mapped tensor -> its file


def is_large(size: int) -> bool:
    """Whether so many bytes are mapped from a file, more than a quarter of the memory: a run has several such sets."""
    there = memory_bytes(torch.device("cpu"))
    return there is not None and size > there // PART_OF_MEMORY


def new_bytes(shape: Sequence[int], folder: Path) -> torch.Tensor:
    """A uint8 tensor to be filled, in memory; a large one in a file without a name, of which nothing stays.

    Args:
        folder: where the file may be.

    Raises:
        OSError: there is no room for it.
    """
    size = math.prod(shape)
    if not is_large(size):
        return torch.empty(*shape, dtype=torch.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as the tensor
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)  # a full disk is found here, not by a signal
    else:
        file.truncate(size)
    made = mapped(file, size, shared=True).view(*shape)
    _files[made] = file
    return made


def filled(x: torch.Tensor) -> torch.Tensor:
    """What :func:`new_bytes` gave, once it is filled: its file cannot be changed through the result."""
    file = _files.get(x)
    if file is None:
        return x
    settled = mapped(file, x.numel()).view(x.shape)
    _files[settled] = file
    return settled


def own_copy(x: torch.Tensor) -> torch.Tensor:
    """A copy to be changed; of what :func:`filled` gave, memory holds no more than the pages that are changed."""
    file = _files.get(x)
    return x.clone() if file is None else mapped(file, x.numel()).view(x.shape)


def mapped(file: IO[bytes], size: int, shared: bool = False) -> torch.Tensor:
    """The bytes of a file, uint8 ``(size,)``, read when they are used; memory may forget them again.

    Args:
        shared: what is written to the tensor goes to the file; else to a copy of the page, which this tensor alone has.
    """
    if os.name == "posix":
        kind = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE | _NO_RESERVE
        pages = mmap.mmap(file.fileno(), size, flags=kind, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    else:
        pages = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_WRITE if shared else mmap.ACCESS_COPY)
    return torch.frombuffer(pages, dtype=torch.uint8)
