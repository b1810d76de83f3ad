"""Decode and prepare image files in threads, ahead of the network, at a memory that does not grow with their number."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from pydicom import Dataset

from xraylab.data import pixels
from xraylab.data.pixels import Gray
from xraylab.errors import DataError
from xraylab.inference.classifier import Classifier
from xraylab.inference.warnings import ImageFacts
from xraylab.predict import dicom_header
from xraylab.predict.image_files import ImageFile

AHEAD = 192
"""Images that are decoded, or wait to be, while the network computes a batch of 64."""
HELD = 512 << 20
"""Bytes of undecoded files from archives that may wait."""


@dataclass(frozen=True)
class Prepared:
    """An image ready for the network."""

    id: str
    image: Gray
    """uint8 (size, size)."""
    facts: ImageFacts | None
    """For warnings; None where they are not looked for."""
    sop_instance_uid: str
    """Of DICOM; else ''."""
    header: Dataset | None
    """Of DICOM whose report is to be written, as `dicom_header.read` has it."""


@dataclass(frozen=True)
class Unreadable:
    """A file that was left out."""

    id: str
    reason: str


Result = Prepared | Unreadable


def prepare(file: ImageFile, classifier: Classifier, with_header: bool) -> Result:
    """Decode one file and prepare it for the classifier; `with_header`: with what a report needs of DICOM."""
    try:
        with file.open() as opened, pixels.BUDGET.lease() as reserve:
            picture = pixels.decode_stream(opened, file.id, reserve)
            uid, header = "", None
            if picture.format == "DICOM":
                opened.seek(0)
                header = dicom_header.read(opened, with_header)
                uid = dicom_header.sop_instance_uid(header)
            reference = classifier.reference
            facts = ImageFacts.of(picture, reference.may_be_copy) if reference else None
            return Prepared(file.id, classifier.prepare(picture), facts, uid, header if with_header else None)
    except DataError as error:
        return Unreadable(file.id, str(error).removeprefix(f"{file.id}: "))
    except Exception as error:  # a file or an archive may be damaged in any way
        return Unreadable(file.id, pixels.reason(error))


def in_threads(work: Callable[[ImageFile], Result], files: Iterable[ImageFile]) -> Iterator[Result]:
    """`work` of every file, in their order, ahead of whoever takes the results."""
    with ThreadPoolExecutor() as pool:
        waiting, held = deque[tuple[int, Future[Result]]](), 0
        try:
            for file in files:
                waiting.append((file.held, pool.submit(work, file)))
                held += file.held
                while len(waiting) > AHEAD or (held > HELD and waiting):
                    size, future = waiting.popleft()
                    held -= size
                    yield future.result()
            while waiting:
                yield waiting.popleft()[1].result()
        finally:
            for _, future in waiting:
                future.cancel()
