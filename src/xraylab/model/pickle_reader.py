"""From torch's pickles on standard input to safetensors on standard output, without importing what a pickle names.

Runs as a process of its own (`unpickling.convert`), which before the first byte gives up what it could do besides: no
further file, socket or process can be opened, and time, memory and output are bounded. Of the pickle's classes none is
imported: tensors are read from their bytes, and any other object of a known library is replaced by a stand-in that
keeps its attributes. A name of anything else stops it.
"""

import codecs
import io
import itertools
import json
import pickle
import pickletools
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

MAGIC = 0x1950A86A20F9469CFC6C  # of torch's format before 1.6
REFUSED = 3  # the exit code of a pickle that is refused, with the reason on standard error
SECONDS, SPARE = 600, 1 << 29  # of processor time; bytes of memory besides the libraries and four times the file
INFLATED, SMALL = 2, 1 << 20  # times the file, and bytes: of what is read, and of what is written
MOST_OBJECTS = 1_000_000  # of which a file of weights consists
HARMLESS = {"set": set, "frozenset": frozenset, "dict": dict, "list": list, "tuple": tuple, "object": object}
LIBRARIES = ("torch.nn.", "torch.optim.", "torchvision.", "torchxrayvision.", "timm.", "numpy.", "__main__.")
INERT = ("argparse.Namespace", "_codecs.encode")
# torch's name of a storage or dtype -> safetensors' name, and numpy's of as many bytes
DTYPES = {
    "Double": ("F64", "<f8"), "Float": ("F32", "<f4"), "Half": ("F16", "<f2"), "BFloat16": ("BF16", "<u2"),
    "Long": ("I64", "<i8"), "Int": ("I32", "<i4"), "Short": ("I16", "<i2"), "Char": ("I8", "|i1"),
    "Byte": ("U8", "|u1"), "Bool": ("BOOL", "|u1"),
}  # fmt: skip


class RefusedError(Exception):
    """A pickle that is no file of weights as it should be."""


class StandIn:
    """An object of a class that is not imported: its attributes, and nothing that it could do."""

    def __new__(cls, *arguments: Any, **options: Any) -> "StandIn":
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update({str(key): value for key, value in state.items()})

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass


@dataclass
class Storage:
    """Numbers of one type; `data` is there after all of the pickle has been read."""

    kind: str
    count: int
    data: bytes = field(default=b"", repr=False)


@dataclass
class Part:
    """A tensor: a view of a storage."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self) -> NDArray[Any]:
        """A copy of its numbers, contiguous. Errors: RefusedError where it would look outside of its storage."""
        values = np.frombuffer(self.storage.data, DTYPES[self.storage.kind][1])
        steps = [*self.size, *self.stride, self.offset]
        if any(not isinstance(step, int) or step < 0 for step in steps) or len(self.size) != len(self.stride):
            raise RefusedError("a tensor of impossible shape")
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.size, self.stride, strict=True))
        if 0 in self.size:
            return np.empty(self.size, values.dtype)
        if last >= len(values):
            raise RefusedError("a tensor that is larger than its storage")
        strides = [step * values.itemsize for step in self.stride]
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(values[self.offset :], self.size, strides))


class Reader(pickle.Unpickler):
    """An unpickler that finds no code but this module's."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        qualified = f"{module}.{name}"
        if qualified in STAND_INS:
            return STAND_INS[qualified]
        if module in {"builtins", "__builtin__"} and name in HARMLESS:
            return HARMLESS[name]
        if module == "torch" and name.removesuffix("Storage") in DTYPES:
            return name.removesuffix("Storage")
        if module == "torch" and name.islower() and name.isalnum():
            return name  # a dtype that is no tensor's
        if qualified in INERT or qualified.startswith(LIBRARIES):
            return type(name, (StandIn,), {})
        raise RefusedError(f"it asks for {qualified}, which no file of weights needs")

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) > 1 and pid[0] == "module":
            return pid[1]
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or any(pid[5:]):
            raise RefusedError("it refers to something that is no storage")
        _, kind, key, _, count = pid[:5]
        if kind not in DTYPES or not isinstance(count, int) or count < 0:
            raise RefusedError(f"a storage of {kind}")
        return self.storages.setdefault(str(key), Storage(kind, count))


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Part:
    if not isinstance(storage, Storage):
        raise RefusedError("a tensor without a storage")
    return Part(storage, offset, tuple(size), tuple(stride))


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _reconstruct(cls: Any, *_: Any) -> Any:
    return cls()


STAND_INS: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "copyreg._reconstructor": _reconstruct,
    "copy_reg._reconstructor": _reconstruct,
    "torch.Size": tuple,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
}


def read(file: IO[bytes]) -> dict[str, Part]:
    """Dotted name -> tensor of everything in a file that torch.save wrote. Errors: RefusedError."""
    content = _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)
    tensors = dict(_tensors(content, "", itertools.count(1)))
    if not tensors:
        raise RefusedError("it holds no tensors")
    return tensors


def _read_zip(file: IO[bytes]) -> Any:
    size = file.seek(0, 2)
    with zipfile.ZipFile(file) as archive:
        if sum(member.file_size for member in archive.infolist()) > INFLATED * size + SMALL:
            raise RefusedError("it inflates to much more than its size")
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise RefusedError("it is a zip archive of something else than torch's")
        top = pickles[0].removesuffix("data.pkl")
        if f"{top}byteorder" in archive.namelist() and archive.read(f"{top}byteorder") != b"little":
            raise RefusedError("its bytes are in another order than this machine's")
        content, storages = _unpickle(io.BytesIO(archive.read(pickles[0])), size + SMALL)
        for key, storage in storages.items():
            _fill(storage, archive.read(f"{top}data/{key}"))
    return content


def _read_legacy(file: IO[bytes]) -> Any:
    """torch's format before 1.6: magic number, version, machine, the pickle, then the storages one by one."""
    size = file.seek(0, 2)
    file.seek(0)
    if _unpickle(file, size)[0] != MAGIC:
        raise RefusedError("it is no file that torch.save wrote")
    _unpickle(file, size), _unpickle(file, size)
    content, storages = _unpickle(file, size)
    for key in _unpickle(file, size)[0]:
        storage = storages[str(key)]
        if int.from_bytes(file.read(8), "little") != storage.count:
            raise RefusedError("a storage of another size than it is said to have")
        _fill(storage, file.read(min(storage.count * np.dtype(DTYPES[storage.kind][1]).itemsize, size)))
    return content


def _unpickle(file: IO[bytes], size: int) -> tuple[Any, dict[str, Storage]]:
    """Read one pickle, and the storages that it names; none of whose memo's numbers is beyond `size`."""
    start = file.tell()
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in {"PUT", "LONG_BINPUT"} and int(argument or 0) > size:  # the memo takes memory up to there
            raise RefusedError("it is no pickle that torch wrote")
    file.seek(start)
    reader = Reader(file)
    return reader.load(), reader.storages


def _fill(storage: Storage, data: bytes) -> None:
    if len(data) < storage.count * np.dtype(DTYPES[storage.kind][1]).itemsize:
        raise RefusedError("it is cut off")
    storage.data = data


def _tensors(content: Any, prefix: str, count: Iterator[int]) -> Iterator[tuple[str, Part]]:
    """Of mappings their tensors, of networks those of their state dict; `count` counts what is looked at."""
    if next(count) > MOST_OBJECTS:  # one mapping in another, twice each, is many times as much as the file
        raise RefusedError("it holds more than a network has")
    if isinstance(content, Part):
        yield prefix.removesuffix("."), content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _tensors(value, f"{prefix}{key}.", count)
    elif isinstance(content, StandIn):
        state = vars(content)
        transient = state.get("_non_persistent_buffers_set", ())
        buffers = {key: value for key, value in state.get("_buffers", {}).items() if key not in transient}
        for part in (state.get("_parameters", {}), buffers, state.get("_modules", {})):
            yield from _tensors(part, prefix, count)


def write(tensors: Mapping[str, Part], file: IO[bytes], most: int) -> None:
    """The safetensors format: the length of a JSON header, the header, then all numbers, in the order of the names.

    Errors: RefusedError where that is more than `most` bytes.
    """
    header: dict[str, Any] = {}
    end = 0
    for name, part in sorted(tensors.items()):
        dtype, numpy = DTYPES[part.storage.kind]
        start, end = end, end + int(np.prod(part.size, dtype=object)) * np.dtype(numpy).itemsize
        header[name] = {"dtype": dtype, "shape": list(part.size), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    if end + len(text) > most:  # views of one storage, each as large as it
        raise RefusedError("its tensors are much larger than the file")
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for _, part in sorted(tensors.items()):
        file.write(part.array().tobytes())
    file.flush()


def convert(source: IO[bytes], target: IO[bytes]) -> str:
    """Write what `source` holds to `target`; returns why that cannot be done, '' where it is. Errors: MemoryError."""
    try:
        write(read(source), target, INFLATED * source.seek(0, 2) + SMALL)
    except MemoryError:
        raise
    except RecursionError:
        return "it is nested without end"
    except RefusedError as error:
        return str(error)
    except Exception as error:  # bytes of any kind may fail in any way
        return f"{type(error).__name__}: {error}"
    return ""


def _give_up_everything_else(size: int) -> None:
    """Bound what this process may use; standard input, output and error are the last files that it has."""
    import resource  # noqa: PLC0415 - not there on Windows, where `convert` says so

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    statm = Path("/proc/self/statm")
    if statm.is_file():  # on Linux, where the limit is of addresses, of which libraries take more than memory
        used = int(statm.read_text().split()[0]) * resource.getpagesize()
    limits = {
        resource.RLIMIT_CPU: SECONDS,
        resource.RLIMIT_AS: used + 4 * size + SPARE,
        resource.RLIMIT_FSIZE: INFLATED * size + 2 * SMALL,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 3,
    }
    for limit, value in limits.items():
        _, hard = resource.getrlimit(limit)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (bound, bound))


def main() -> int:
    """Convert standard input to standard output; the exit code says whether that was possible."""
    source, target = sys.stdin.buffer, sys.stdout.buffer
    np.lib.stride_tricks.as_strided(np.zeros(2, "<u2"), (1,), (2,))  # imported before files are out of reach
    codecs.lookup("cp437")  # of names in zip archives: likewise
    _give_up_everything_else(source.seek(0, 2))
    source.seek(0)
    try:
        problem = convert(source, target)
    except MemoryError:
        problem = "it needs more memory than a file of its size should"
    sys.stderr.write(f"{problem}\n" if problem else "")
    return REFUSED if problem else 0


if __name__ == "__main__":
    sys.exit(main())
