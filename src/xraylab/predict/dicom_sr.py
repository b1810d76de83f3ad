"""DICOM structured reports of what is predicted of DICOM images: Comprehensive SR after TID 1500, by highdicom.

A report belongs to its image's patient and study, as the standard has it. Classes and warnings have codes of a private
scheme, `99XRAYLAB`, which are hashes of what they mean: equal meanings have equal codes in every report.
"""

import re
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from xraylab import progress
from xraylab.errors import MissingError
from xraylab.predict import dicom_header, writers
from xraylab.predict.dicom_header import KEYS, REQUIRED
from xraylab.predict.predictions import Predictions, Predictor

try:
    from highdicom import sr
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
except ImportError:
    raise MissingError("--dicom-sr needs highdicom, which is not installed: pip install 'xraylab[dicom]'") from None

SCHEME = "99XRAYLAB"
RESEARCH_ONLY = "xraylab: for research, not for diagnosis"
MEANING_LENGTH = 64  # of LO, the type of a code's meaning
SERIES_NUMBER = 9901  # far from those of the scanners
FORMS = {
    "PatientSex": "[MFO]",
    "PatientBirthDate": r"\d{8}",
    "StudyDate": r"\d{8}",
    "StudyTime": r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?",
}
"""What an optional value must look like; one that does not is left empty."""


class NoReport(ValueError):  # noqa: N818 - no error of the program
    """Says why an image has no report, without a value from its file."""


class Reporter:
    """Makes the reports of one run of the command, in one series per study."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor, self.run = predictor, generate_uid()

    def write(self, folder: Path, before: int, batch: Predictions) -> None:
        """Write the reports of a batch that `before` images precede; an image that cannot have one is told."""
        for row, image in enumerate(batch.images):
            number = before + row + 1
            try:
                if (report := self.report(number, batch, row)) is not None:
                    name = writers.file_name(number, image.id)
                    report.save_as(folder / f"{name}.dcm", enforce_file_format=True)
            except OSError:
                raise
            except Exception as error:  # whatever is wrong in a header, of which other errors quote values
                why = str(error) if isinstance(error, NoReport) else "its header is not valid"
                progress.say(f"{image.id}: no DICOM report, since {why}")

    def report(self, number: int, batch: Predictions, row: int) -> Dataset | None:
        """The report of an image of the batch; `number` is its row in the table, counted from 1.

        None where it is no DICOM. Errors: NoReport.
        """
        header = batch.images[row].header
        if header is None:
            return None
        evidence = _evidence(header)
        report = sr.MeasurementReport(
            observation_context=sr.ObservationContext(observer_device_context=self._device()),
            procedure_reported=codes.LN.XRUnspecifiedBodyRegion,
            imaging_measurements=self._measurements(evidence, batch, row),
        )
        return sr.ComprehensiveSR(
            evidence=[evidence],
            content=report,
            series_instance_uid=generate_uid(entropy_srcs=[self.run, evidence.StudyInstanceUID]),
            series_number=SERIES_NUMBER,
            series_description=RESEARCH_ONLY,
            sop_instance_uid=generate_uid(),
            instance_number=number,
            manufacturer="xraylab",
            manufacturer_model_name="predict-images",
            software_versions=version("xraylab"),
            is_complete=True,
            specific_character_set="ISO_IR 192",
            coding_schemes=[CodingSchemeIdentificationItem(designator=SCHEME, name="xraylab")],
        )

    def _device(self) -> sr.ObserverContext:
        name = self.predictor.ensemble.name
        device = sr.DeviceObserverIdentifyingAttributes(
            uid=generate_uid(entropy_srcs=["xraylab", name]), name="xraylab", model_name=name
        )
        return sr.ObserverContext(codes.DCM.Device, device)

    def _measurements(
        self, evidence: Dataset, batch: Predictions, row: int
    ) -> list[sr.MeasurementsAndQualitativeEvaluations]:
        """A group for each class: its probability, the calibrated one, and whether it reaches its threshold."""
        source = sr.SourceImageForMeasurementGroup(evidence.SOPClassUID, evidence.SOPInstanceUID)
        return [
            sr.MeasurementsAndQualitativeEvaluations(
                tracking_identifier=sr.TrackingIdentifier(uid=generate_uid(), identifier=name),
                finding_type=_code(name),
                algorithm_id=self._algorithm(name),
                measurements=_probabilities(batch, row, number),
                qualitative_evaluations=_evaluations(batch, row, name),
                source_images=[source],
            )
            for number, name in enumerate(self.predictor.ensemble.classes)
        ]

    def _algorithm(self, name: str) -> sr.AlgorithmIdentification:
        predictor = self.predictor
        limits = predictor.ensemble.thresholds.named(predictor.point) if predictor.point else {}
        threshold = [f"operating point: {predictor.point}", f"threshold: {limits[name]!r}"] if name in limits else None
        return sr.AlgorithmIdentification(predictor.ensemble.name, version("xraylab"), parameters=threshold)


def _probabilities(batch: Predictions, row: int, number: int) -> list[sr.Measurement]:
    each = [sr.Measurement(codes.DCM.Probability, float(batch.p[row, number]), codes.UCUM.NoUnits)]
    if batch.calibrated is not None:
        name = _code("Probability after temperature scaling")
        each.append(sr.Measurement(name, float(batch.calibrated[row, number]), codes.UCUM.NoUnits))
    return each


def _evaluations(batch: Predictions, row: int, name: str) -> list[sr.QualitativeEvaluation]:
    """The decision, and all warnings about the image, without which it is not to be read."""
    each = []
    if name in batch.has:
        decision = codes.cid240.Present if batch.has[name][row] else codes.cid240.Absent
        each.append(sr.QualitativeEvaluation(_code("Probability reaches its threshold"), decision))
    warnings = batch.warnings[row] if batch.warnings is not None else []
    return each + [sr.QualitativeEvaluation(_code("Warning"), _code(warning.code)) for warning in warnings]


def _code(meaning: str) -> sr.CodedConcept:
    return sr.CodedConcept(sha256(meaning.encode()).hexdigest()[:16], SCHEME, meaning[:MEANING_LENGTH])


def _evidence(header: Dataset) -> Dataset:
    """The keys, the patient and the study of a report, and nothing else; what has no valid value is empty."""
    if not dicom_header.sop_instance_uid(header) or not header.get("SOPClassUID"):
        raise NoReport("it has no valid SOPInstanceUID and SOPClassUID")
    if not header.get("StudyInstanceUID") or not header.get("SeriesInstanceUID"):
        raise NoReport("it has no StudyInstanceUID and SeriesInstanceUID")
    evidence = Dataset()
    for name in (*KEYS, *REQUIRED):
        text = str(header.get(name) or "")
        if name != "SpecificCharacterSet":
            setattr(evidence, name, text if re.fullmatch(FORMS.get(name, "(?s).*"), text) else "")
    return evidence
