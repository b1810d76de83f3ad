"""The HTTP API: answers are the classifier's own, hostile files harm nobody, and limits hold."""

import base64
import io
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dicom_files
import numpy as np
import psutil
import pytest
import serving
from conftest import Loaded
from PIL import Image
from serving import SENSITIVE, YOUDEN
from starlette.testclient import TestClient

from xraylab.data import pixels
from xraylab.errors import DataError
from xraylab.inference.classifier import Classifier
from xraylab.predict import classifiers
from xraylab.serve import models
from xraylab.serve.app import Service
from xraylab.serve.limits import Limits


@pytest.fixture(scope="module")
def classifier(trained: Loaded) -> Classifier:
    return serving.with_points(classifiers.of_run(trained[1], "baseline"))


@pytest.fixture(scope="module")
def findings(trained_findings: Loaded) -> Classifier:
    return serving.with_points(classifiers.of_run(trained_findings[1], "baseline"))


@pytest.fixture(scope="module")
def service(classifier: Classifier, findings: Classifier) -> Service:
    return serving.service(classifier, findings)


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[TestClient]:
    with serving.client(service) as each:
        yield each


def expected(classifier: Classifier, content: bytes, name: str = "film.png") -> Any:
    image = classifier.prepare(pixels.decode_stream(io.BytesIO(content), name))
    return classifier.predict_proba(image[None])


def dicom() -> bytes:
    written = io.BytesIO()
    dicom_files.dataset(dicom_files.levels(), PatientName="Somebody^Else").save_as(written, enforce_file_format=True)
    return written.getvalue()


def test_answers_are_the_classifiers_own(client: TestClient, classifier: Classifier, findings: Classifier) -> None:
    deep = serving.encoded(np.arange(0, 48 * 40, dtype=np.uint16).reshape(48, 40) * 30)
    films = [("a.png", serving.png(1)), ("deep.png", deep), ("no suffix", dicom())]
    answer = client.post("/predict", files=serving.files(*films))
    assert answer.status_code == 200
    body = answer.json()
    assert body["note"] == "For research, not for diagnosis."
    assert [each["name"] for each in body["files"]] == ["a.png", "deep.png", "no suffix"]
    assert [each["format"] for each in body["files"]] == ["PNG", "PNG", "DICOM"]
    for (name, content), each in zip(films, body["files"], strict=True):
        one, several = each["results"]
        for model, result in ((classifier, one), (findings, several)):
            p = expected(model, content, name)
            assert [result[f"p_{label}"] for label in model.classes] == pytest.approx(p[0], abs=1e-4)
            calibrated = model.calibrate(p)
            assert calibrated is not None
            assert [result[f"calibrated_{label}"] for label in model.classes] == pytest.approx(calibrated[0], abs=1e-4)
            has = model.reaches(p, YOUDEN)
            assert {label: result[f"has_{label}"] for label in has} == {
                label: int(row[0]) for label, row in has.items()
            }
        assert one["predicted"] == classifier.classes[int(expected(classifier, content, name).argmax())]
        present = [label for label in findings.classes if several[f"has_{label}"]]
        assert several["predicted"] == ("|".join(present) or "none")
    assert "Somebody" not in answer.text


def test_a_request_may_name_an_operating_point(client: TestClient) -> None:
    answer = client.post("/predict", params={"point": SENSITIVE}, files=serving.files(("a.png", serving.png(1))))
    (result, _) = answer.json()["files"][0]["results"]
    assert (result["point"], result["has_TB"]) == (SENSITIVE, 1)  # its threshold is 0


def test_a_preview_and_an_overlay_come_with_the_answer(client: TestClient, service: Service) -> None:
    query: dict[str, Any] = {"preview": 40, "explain": "TB"}
    content = serving.png(1, (64, 48))
    (file,) = client.post("/predict", params=query, files=serving.files(("a.png", content))).json()["files"]
    preview = Image.open(io.BytesIO(base64.b64decode(file["preview"])))
    assert (preview.mode, preview.size) == ("L", (40, 30))
    with_overlay, without = file["results"]
    assert "overlay" not in without  # a model without this class
    assert (with_overlay["overlay"]["class"], with_overlay["overlay"]["box"]) == ("TB", [0, 0, 1, 1])
    overlay = Image.open(io.BytesIO(base64.b64decode(with_overlay["overlay"]["png"])))
    size = service.models[0].classifier.record["img_size"]
    assert (overlay.mode, overlay.size) == ("RGBA", (size, size))


def test_hostile_files_have_an_error_each_and_harm_no_other(client: TestClient, classifier: Classifier) -> None:
    hostile = serving.hostile()
    answer = client.post("/predict", files=serving.files(*hostile.items(), ("film.png", serving.png(1))))
    assert answer.status_code == 200
    *failed, film = answer.json()["files"]
    assert {each["error"]["code"] for each in failed} == {"unreadable"}
    assert {each["name"]: each["error"]["message"] for each in failed} == {
        "truncated.png": "image file is truncated",
        "bomb.png": "Image size (48000000 pixels) exceeds limit of 40000000 pixels",
        "archive.zip": "cannot identify image file",
        "empty.png": "cannot identify image file",
        "text.dcm": "holds no pixel data, or is cut off before their end",
    }
    p = expected(classifier, serving.png(1))[0]
    assert [film["results"][0][f"p_{label}"] for label in classifier.classes] == pytest.approx(p, abs=1e-4)
    alone = client.post("/predict", files=serving.files(("empty.png", b"")))
    assert (alone.status_code, alone.json()["files"][0]["error"]["code"]) == (422, "unreadable")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"explain": "Gout"}, "explain must be one of: Healthy, TB, "),
        ({"point": "0.7"}, f"point must be one of: {YOUDEN}, {SENSITIVE}"),
        ({"preview": "-1"}, "preview must be a whole number of pixels from 0 to 2048"),
        ({"preview": "2049"}, "preview must be a whole number of pixels from 0 to 2048"),
        ({"other": "1"}, "the query may hold explain, point and preview, each once"),
        ({"preview": ["1", "2"]}, "the query may hold explain, point and preview, each once"),
    ],
)
def test_a_query_is_checked(client: TestClient, query: dict[str, Any], message: str) -> None:
    answer = client.post("/predict", params=query, files=serving.files(("a.png", serving.png())))
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_query")
    assert answer.json()["error"]["message"].startswith(message)


START = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n'
END, X = b"\r\nabc\r\n--x--", "multipart/form-data; boundary=x"


@pytest.mark.parametrize(
    ("kind", "body", "status", "code"),
    [
        ("image/png", b"", 415, "not_multipart"),
        ("multipart/form-data", b"", 400, "bad_multipart"),
        (X, b"no boundary", 400, "bad_multipart"),
        (X, START + b"\r\nabc", 400, "bad_multipart"),
        (X, START + b"X-Long: " + b"y" * 100_000 + b"\r\n" + END, 400, "bad_multipart"),
        (X, b"--x--\r\n", 422, "no_files"),
        (X, START.replace(b"files", b"film") + END, 422, "unknown_field"),
        (X, START.replace(b"filename", b"text") + END, 422, "unknown_field"),
    ],
)
def test_a_body_is_checked(client: TestClient, kind: str, body: bytes, status: int, code: str) -> None:
    answer = client.post("/predict", content=body, headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_sizes_and_counts_are_limited(classifier: Classifier) -> None:
    limits = Limits(rate=0, body=1, files=2)
    with serving.client(serving.service(classifier, limits=limits)) as client:
        many = client.post("/predict", files=serving.files(*[("a.png", serving.png())] * 3))
        large = client.post("/predict", files=serving.files(("a.png", bytes(2**20))))
        streamed = client.post("/predict", content=(bytes(2**18) for _ in range(5)))
    for answer, code in ((many, "too_many_files"), (large, "body_too_large"), (streamed, "body_too_large")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, code)


@pytest.mark.parametrize("limits", [Limits(rate=0, queue=0), Limits(rate=0, bodies=0)])
def test_a_full_queue_sends_clients_away_for_a_moment(classifier: Classifier, limits: Limits) -> None:
    served = serving.service(classifier, limits=limits)
    with serving.client(served) as client:
        answer = client.post("/predict", files=serving.files(("a.png", serving.png())))
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["error"]["code"]) == (503, "1", "busy")
    assert (served.admission.requests, served.admission.bytes) == (0, 0)


def test_workers_are_confined_and_replaced(classifier: Classifier) -> None:
    served = serving.service(classifier, limits=Limits(rate=0, memory=100, decoding=5.0))
    with serving.client(served) as client:
        assert served.pool is not None
        first = served.pool.workers()
        if sys.platform == "linux":
            limits = Path(f"/proc/{first[0]}/limits").read_text().splitlines()
            rows = {line[:25].strip(): line[25:].split()[1] for line in limits}
            assert (rows["Max file size"], rows["Max core file size"]) == ("0", "0")
            large = client.post(
                "/predict", files=serving.files(("a.png", serving.encoded(np.zeros((6000, 6000), np.uint8))))
            )
            assert large.json()["files"][0]["error"]["code"] == "too_large"
        os.kill(first[0], signal.SIGKILL)
        while psutil.Process(first[0]).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        answer = client.post("/predict", files=serving.files(("a.png", serving.png())))
        assert (answer.status_code, served.pool.workers() == first) == (200, False)
        os.kill(served.pool.workers()[0], signal.SIGSTOP)  # as one that never comes to an end
        stuck = client.post("/predict", files=serving.files(("a.png", serving.png())))
        assert (stuck.status_code, stuck.json()["files"][0]["error"]) == (
            422,
            {"code": "decoding_timeout", "message": "takes longer to decode than the 5 s that the server allows"},
        )
        assert client.post("/predict", files=serving.files(("a.png", serving.png()))).status_code == 200
        assert "xraylab_worker_restarts_total 2.0" in client.get("/metrics").text


WRITTEN: list[str] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        WRITTEN.append(str(arguments[0]))


def test_nothing_of_an_upload_is_written_or_logged(
    client: TestClient, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sys.addaudithook(_audit)
    WRITTEN.clear()
    name, large = "Doe_Jane_1950.png", serving.png(3, (1400, 1400))  # more than a form parser keeps in memory
    assert client.post("/predict?explain=TB", files=serving.files((name, large))).status_code == 200
    assert client.post("/predict", files=serving.files((name, large[:1000]))).status_code == 422
    assert client.post("/predict", content=b"Doe", headers={"Content-Type": X}).status_code == 400
    assert [each for each in WRITTEN if each != os.devnull] == []
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.name.startswith(("xraylab", "python_multipart"))]
    assert "Doe" not in "".join(record.getMessage() for record in caplog.records if record.name != "httpx")
    assert "Doe" not in client.get("/metrics").text


def test_an_error_of_the_server_tells_its_place_and_no_text(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(self: Classifier, images: Any) -> Any:
        raise RuntimeError("Doe")

    served = serving.service(classifier)
    with serving.client(served) as client:
        with monkeypatch.context() as patched:
            patched.setattr(Classifier, "score", fail)
            answer = client.post("/predict", files=serving.files(("a.png", serving.png())))
        after = client.post("/predict", files=serving.files(("a.png", serving.png())))
    assert (answer.status_code, answer.json()["error"]["code"], after.status_code) == (500, "internal", 200)
    said = capfd.readouterr().err
    assert said.startswith("error: RuntimeError in fail, ")
    assert "Doe" not in said


def test_counters_are_those_of_the_requests(classifier: Classifier) -> None:
    with serving.client(serving.service(classifier)) as client:
        client.post("/predict", files=serving.files(("a.png", serving.png()), ("b.png", b""), ("c.png", serving.png())))
        client.get("/nothing")
        lines = client.get("/metrics").text.splitlines()
    rows = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
    assert rows['xraylab_requests_total{path="/predict",status="200"}'] == 1
    assert rows['xraylab_requests_total{path="other",status="404"}'] == 1
    assert (rows['xraylab_images_total{outcome="classified"}'], rows['xraylab_images_total{outcome="refused"}']) == (
        2,
        1,
    )
    assert rows['xraylab_errors_total{code="unreadable"}'] == 1
    assert rows["xraylab_batch_images_sum"] == 2
    assert rows['xraylab_request_seconds_count{path="/predict"}'] == 1
    assert rows["xraylab_queue_requests"] == 0


def test_models_are_described(client: TestClient, classifier: Classifier) -> None:
    first, second = client.get("/model").json()["models"]
    assert (first["name"], second["name"]) == ("baseline/0", "baseline/0 (2)")
    assert first["operating_points"][0] == {"class": "TB", "point": YOUDEN, "threshold": 0.5}
    assert (first["classes"], first["preprocessing"]) == (classifier.classes, classifier.record["images"])
    assert second["task"] == "multi-label"


def test_an_operating_point_that_no_model_has_is_refused(classifier: Classifier) -> None:
    with pytest.raises(
        DataError, match=f"--point, baseline/0: '0.7' is no operating point; there are:\n  - {YOUDEN}\n"
    ):
        models.served([classifier], "0.7")


def test_the_description_names_every_route_and_field(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {"/predict", "/model", "/health", "/metrics", "/openapi.json"}
    parameters = {each["name"]: each["schema"] for each in document["paths"]["/predict"]["post"]["parameters"]}
    assert (set(parameters), parameters["point"]["enum"]) == ({"explain", "point", "preview"}, [YOUDEN, SENSITIVE])
    text = json.dumps(document)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names == set(document["components"]["schemas"])
    described = set(document["components"]["schemas"]["File"]["properties"])
    film = client.post("/predict?preview=16", files=serving.files(("a.png", serving.png()))).json()["files"][0]
    assert set(film) == described
