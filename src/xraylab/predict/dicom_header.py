"""The keys of a DICOM image, and what a structured report of it must have of its patient and study."""

from typing import BinaryIO

from pydicom import Dataset, dcmread
from pydicom.uid import UID

from xraylab.data import dicom

KEYS = ("SOPClassUID", "SOPInstanceUID")
REQUIRED = (
    "SpecificCharacterSet", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "PatientName", "PatientBirthDate",
    "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
"""What the patient and study modules of a structured report must have, even if empty (PS3.3 C.7.1.1, C.7.2.1)."""


def read(file: BinaryIO, patient: bool) -> Dataset:
    """The keys, and with `patient` all of REQUIRED, as far as they are there; nothing else of the file."""
    dicom.silence_pydicom()
    tags = [*KEYS, *(REQUIRED if patient else ())]
    return dcmread(file, force=True, stop_before_pixels=True, specific_tags=tags)


def sop_instance_uid(header: Dataset) -> str:
    """'' where there is none, or none that is valid."""
    value = header.get_item("SOPInstanceUID").value if "SOPInstanceUID" in header else ""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    uid = UID(text.strip(" \0"))
    return str(uid) if uid.is_valid else ""
