"""The keys of a DICOM image, and what a structured report of it must have of its patient and study."""

from contextlib import suppress
from typing import BinaryIO

from pydicom import Dataset
from pydicom.uid import UID

from xraylab.data import dicom

KEYS = ("SOPClassUID", "SOPInstanceUID")
REQUIRED = (
    "SpecificCharacterSet", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "PatientName", "PatientBirthDate",
    "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
"""What the patient and study modules of a structured report must have, even if empty (PS3.3 C.7.1.1, C.7.2.1)."""


def read(file: BinaryIO, patient: bool) -> Dataset:
    """The keys, and with `patient` all of REQUIRED, as far as they are there; nothing else of the file.

    Errors: ValueError.
    """
    tags = [*KEYS, *(REQUIRED if patient else ())]
    return dicom.parse(file, tags, stop_before_pixels=True)


def sop_instance_uid(header: Dataset) -> str:
    """'' where there is none, or none that is valid."""
    value: object = ""
    with suppress(Exception):  # pydicom raises whatever it likes at an element of an unknown kind
        value = header.get_item("SOPInstanceUID").value if "SOPInstanceUID" in header else ""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    uid = UID(text.strip(" \0"))
    return str(uid) if uid.is_valid else ""
