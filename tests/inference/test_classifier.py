"""A classifier apart from its study gives the probabilities that the study's stages give."""

import numpy as np
import pandas as pd
import pytest
from conftest import Loaded
from scipy.special import expit, logit, softmax

from xraylab import tables
from xraylab.errors import DataError
from xraylab.inference import thresholds as operating
from xraylab.inference.thresholds import OperatingPoint, Thresholds
from xraylab.predict import classifiers
from xraylab.stages import predict

POINTS = Thresholds([OperatingPoint("TB", "Youden", 0.4), OperatingPoint("TB", "sensitivity 90 %", 0.1)], 2.0)


def table_of(loaded: Loaded) -> pd.DataFrame:
    given, paths = loaded
    predict.run(given, paths, "baseline", 0)
    rows = tables.read(paths.prediction("baseline", 0))
    return rows[(rows["checkpoint"] == "best") & (rows["split"] == "test")]


def test_an_image_file_has_the_probabilities_of_the_stage_predict(trained: Loaded) -> None:
    _, paths = trained
    rows = table_of(trained)
    classifier = classifiers.of_run(paths, "baseline")
    expected = rows[[f"p_{name}" for name in classifier.classes]].to_numpy()
    path_of = tables.read(paths.index).set_index("id")["path"]
    each = classifier.predict([paths.raw / path_of[name] for name in rows["id"]])
    assert [list(row) for row in each] == [classifier.classes] * len(rows)
    assert np.array([list(row.values()) for row in each]) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(DataError, match=r"nothing\.png"):
        classifier.predict(paths.raw / "nothing.png")


def test_several_findings_have_probabilities_of_their_own(trained_findings: Loaded) -> None:
    _, paths = trained_findings
    rows = table_of(trained_findings)
    classifier = classifiers.of_run(paths, "baseline")
    path_of = tables.read(paths.index).set_index("id")["path"]
    images = np.stack([classifier.read(paths.raw / path_of[name]) for name in rows["id"]])
    expected = rows[[f"p_{name}" for name in classifier.classes]].to_numpy()
    assert classifier.predict_proba(images) == pytest.approx(expected, abs=1e-6)


def test_thresholds_survive_json() -> None:
    assert operating.from_json(operating.to_json(POINTS)) == POINTS
    assert POINTS.named("Youden") == {"TB": 0.4}


def test_an_operating_point_is_found_by_part_of_its_name() -> None:
    long = [
        "0.5",
        "highest Youden index on validation",
        *(f"fixed for {n} % sensitivity on validation" for n in (90, 95)),
    ]
    points = Thresholds([OperatingPoint(class_, name, 0.3) for class_ in "ab" for name in long])
    assert points.names == long
    assert [points.find(text) for text in ("0.5", "Youden", "95 % SENS", long[1])] == [
        long[0],
        long[1],
        long[3],
        long[1],
    ]
    for text, problem in (("sensitivity", "fits several operating points"), ("F1", "is no operating point")):
        with pytest.raises(DataError) as caught:
            points.find(text)
        assert str(caught.value) == "\n".join([f"{text!r} {problem}; there are:", *(f"  - {name}" for name in long)])


def test_calibration_divides_logits_by_the_temperature() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(3), 5)
    assert operating.calibrate(p, ["a", "b", "c"], POINTS, False) == pytest.approx(softmax(np.log(p) / 2, axis=1))
    each = Thresholds(temperatures={"a": 0.5, "b": 3.0})
    scaled = expit(logit(p[:, :2]) / [0.5, 3.0])
    assert operating.calibrate(p[:, :2], ["a", "b"], each, True) == pytest.approx(scaled)
    assert operating.calibrate(p, ["a", "b", "c"], each, True) is None
    assert operating.calibrate(p, ["a", "b", "c"], Thresholds(), False) is None
