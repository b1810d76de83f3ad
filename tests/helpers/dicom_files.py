"""DICOM files as the tests need them, and what decoding makes of them."""

from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from xraylab.data import pixels
from xraylab.errors import DataError


def levels(bits: int = 12) -> NDArray[np.uint16]:
    """Values from 0 to the highest of `bits`, all different where they can be."""
    return np.linspace(0, 2**bits - 1, 48 * 64).astype(np.uint16).reshape(48, 64)


def spread(shown: NDArray) -> NDArray[np.float64]:
    return (shown - shown.min()) / (shown.max() - shown.min()) * 65535


def dataset(stored: NDArray, bits: int = 12, **tags: Any) -> Dataset:
    """A digital radiograph with these pixels; `tags` add to it or replace what it has."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = UID("1.2.840.10008.5.1.4.1.1.1.1"), UID("1.2.3")
    made.Rows, made.Columns = stored.shape[-2:] if stored.ndim < 3 or stored.shape[-1] != 3 else stored.shape[:2]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit = stored.dtype.itemsize * 8, bits, bits - 1
    made.PixelRepresentation = 0
    made.PixelData = stored.tobytes()
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def decode(made: Dataset, path: Path) -> pixels.Picture:
    made.save_as(path, enforce_file_format=True)
    return pixels.decode(path)


def look_up(descriptor: list[int], data: NDArray[np.uint16]) -> Dataset:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = descriptor, data.astype(np.uint16).tolist()
    table["LUTData"].VR = "US"
    table.ModalityLUTType = "US"
    return table


def by_gdcm(path: Path, syntax: int) -> None:
    """Compress a file in its place."""
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path))
    assert writer.Write()


def problem(path: Path) -> str:
    """Why `path` cannot be decoded: the error's text behind the path."""
    with pytest.raises(DataError) as caught:
        pixels.decode(path)
    where, _, reason = str(caught.value).partition(": ")
    assert where == str(path)
    return reason
