"""JPEG Extended of 12 bits: GDCM decodes it, but pydicom does not ask it to."""

from typing import Any

import gdcm
import numpy as np
from numpy.typing import NDArray

PRECISION = 12


def decode(stream: bytes, rows: int, columns: int, bits: int) -> NDArray[np.uint16]:
    """Gray levels (rows, columns) of `bits` bits.

    The codec has 12 bits, of which fewer may be stored: what the compression lets overshoot is cut off, as GDCM would
    wrap it round. Errors: ValueError where the stream is another one.
    """
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(gdcm.PixelFormat(1, PRECISION, PRECISION, PRECISION - 1, 0))
    image.SetDataElement(_pixel_data(stream))
    decoded = image.GetBuffer().encode("utf-8", "surrogateescape")  # GDCM's bytes come as text
    levels = np.frombuffer(decoded, "<u2").reshape(rows, columns)
    return levels.clip(0, (1 << bits) - 1)


def _pixel_data(stream: bytes) -> Any:
    fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
    fragment.SetByteStringValue(stream)
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    return element
