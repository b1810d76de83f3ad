"""Patient, study and site from DICOM headers, hashed so that nobody can be identified."""

import hmac
import re
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset

from xraylab.data import dicom
from xraylab.data.pixels import reason
from xraylab.errors import DataError

TAGS = ("PatientID", "IssuerOfPatientID", "StudyDate", "Manufacturer", "InstitutionName")
NOBODY = re.compile(rb"(?i)\W*|0+|(?:anon|unknown|none|null|n/?a|removed|deident|de-ident|xxx).*")
"""Patient IDs that stand for none: they would make one patient of all films."""
DATE = re.compile(rb"(\d{4})\.?(\d{2})\.?(\d{2})")
MAKERS = (
    "Agfa", "Canon", "Carestream", "Fujifilm", "GE", "General Electric", "Hologic", "Kodak", "Konica", "Mindray",
    "Philips", "Samsung", "Shimadzu", "Siemens", "Swissray", "Toshiba", "United Imaging", "Varian", "Vidar",
)  # fmt: skip


def read(path: Path, salt: bytes, keep_names: bool) -> dict[str, str]:
    """Patient, source (the site), manufacturer and date of a film, '' where unknown; the date is to be made a rank.

    Patient (ID and issuer together) and site are salted hashes, and of makers only those known here are named, unless
    `keep_names`. Errors: DataError with the file's path.
    """
    with path.open("rb") as file:
        return read_stream(file, str(path), salt, keep_names)


def read_stream(file: BinaryIO, name: str, salt: bytes, keep_names: bool) -> dict[str, str]:
    """`read` of an open file. Errors: DataError with the name."""
    try:
        tags = _tags(file)
    except Exception as error:  # pydicom raises whatever it likes at a damaged file
        raise DataError(f"{name}: {reason(error)}") from None
    identity = b"" if NOBODY.fullmatch(tags["PatientID"]) else tags["PatientID"]
    issuer, date = tags["IssuerOfPatientID"], DATE.fullmatch(tags["StudyDate"])
    texts = {name: value.decode("utf-8", "replace") for name, value in tags.items()}
    if keep_names:
        patient = "/".join(filter(None, [texts["IssuerOfPatientID"], texts["PatientID"]])) if identity else ""
        site, maker = texts["InstitutionName"], texts["Manufacturer"]
    else:
        patient = _hashed("dicom", issuer + b"\0" + identity, salt) if identity else ""
        site = _hashed("site", tags["InstitutionName"], salt) if tags["InstitutionName"] else ""
        maker = _maker(texts["Manufacturer"])
    day = b"".join(date.groups()).decode() if date else ""
    return {"patient": patient, "source": site, "manufacturer": maker, "date": day}


def _tags(file: BinaryIO) -> dict[str, bytes]:
    """The bytes of each of TAGS, b"" where there are none."""
    dataset = dicom.parse(file, TAGS, stop_before_pixels=True)
    return {name: _bytes(dataset, name) for name in TAGS}


def _bytes(dataset: Dataset, name: str) -> bytes:
    value = dataset.get_item(name).value if name in dataset else b""
    return value.strip(b" \0") if isinstance(value, bytes) else b""


def _hashed(prefix: str, value: bytes, salt: bytes) -> str:
    return f"{prefix}-{hmac.new(salt, value, sha256).hexdigest()[:12]}"


def _maker(text: str) -> str:
    """The known maker that is named, `other` for all else that is written there."""
    words = f" {re.sub(r'[^a-z]+', ' ', text.lower())} "
    maker = next((maker for maker in MAKERS if f" {maker.lower()} " in words), "other" if text else "")
    return "GE" if maker == "General Electric" else maker
