"""The page in headless Chromium: drop, read, slide, keys, two models, a phone, the dark."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browsers
import dicom_files
import numpy as np
import pytest
import serving
from browsers import Browser
from conftest import Loaded
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from xraylab.inference.classifier import Classifier
from xraylab.predict import classifiers

DROP = """
const data = new DataTransfer();
data.items.add(new File([new Uint8Array(arguments[0])], arguments[1]));
const options = {dataTransfer: data, bubbles: true, cancelable: true};
document.getElementById("drop").dispatchEvent(new DragEvent("drop", options));
"""
SUM = """
const canvas = document.querySelectorAll("canvas")[arguments[0]];
return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data].reduce((a, b) => a + b, 0);
"""

pytestmark = [pytest.mark.slow, browsers.needs_browser]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsers.opened(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def models(trained: Loaded, trained_findings: Loaded) -> tuple[Classifier, Classifier]:
    first = serving.with_points(classifiers.of_run(trained[1], "baseline"), threshold=0.3)
    return first, serving.with_points(classifiers.of_run(trained_findings[1], "baseline"))


@pytest.fixture(scope="module")
def url(models: tuple[Classifier, Classifier]) -> Iterator[str]:
    with serving.listening(serving.service(*models)) as port:
        yield f"http://127.0.0.1:{port}/"


def until(browser: Browser, script: str) -> Any:
    return WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(f"return {script}"))


def settled(browser: Browser, films: int) -> None:
    shown = "!document.querySelector('.wait') && document.querySelectorAll('canvas').length === 2"
    until(browser, f"films.length === {films} && films.every((film) => film.answer || film.error) && {shown}")


def number(text: str) -> float:
    return float(text.replace("%", "").strip()) / 100


def test_films_are_dropped_and_read(
    browser: Browser, url: str, models: tuple[Classifier, Classifier], tmp_path: Path
) -> None:
    # a film by the file dialog, a DICOM among others, one that is none, and one dropped
    pixels = np.add.outer(np.arange(60), np.arange(80)).astype(np.uint8)
    (tmp_path / "a.png").write_bytes(serving.encoded(pixels))
    dicom_files.dataset(dicom_files.levels()).save_as(tmp_path / "b.dcm", enforce_file_format=True)
    (tmp_path / "bad.png").write_bytes(b"no film")
    browser.get(url)
    until(browser, "document.body.dataset.ready")
    names = ("a.png", "b.dcm", "bad.png")
    browser.find_element(By.ID, "files").send_keys("\n".join(str(tmp_path / name) for name in names))
    settled(browser, 3)
    browser.execute_script(DROP, list(serving.png(5)), "<img src=x onerror=alert(1)>.png")
    settled(browser, 4)
    rows = browser.find_elements(By.CSS_SELECTOR, "#rows tr")
    assert [row.find_element(By.TAG_NAME, "b").text for row in rows] == [*names, "<img src=x onerror=alert(1)>.png"]
    assert "cannot identify image file" in rows[2].text
    assert browser.find_element(By.ID, "status").text == "4 films; 1 cannot be classified"
    assert browser.find_element(By.CLASS_NAME, "research").text == "For research, not for diagnosis."

    _reads(browser, models, tmp_path / "a.png")
    _changes_the_display(browser)
    _goes_by_key(browser)
    _asks_nobody_else(browser, url)
    _fits_a_phone_in_the_dark(browser)


def _reads(browser: Browser, models: tuple[Classifier, Classifier], film: Path) -> None:
    """Both models' own probabilities, the threshold's mark and the calibrated probability."""
    assert [title.text for title in browser.find_elements(By.CSS_SELECTOR, ".pane h3")] == [
        "baseline/0",
        "baseline/0 (2)",
    ]
    for model, pane in zip(models, browser.find_elements(By.CSS_SELECTOR, ".pane"), strict=True):
        p = model.predict_proba(model.read(film)[None])
        calibrated = model.calibrate(p)
        assert calibrated is not None
        for item, name, one, other in zip(
            pane.find_elements(By.CSS_SELECTOR, ".bars li"), model.classes, p[0], calibrated[0], strict=True
        ):
            label, value = (span.text for span in item.find_elements(By.CSS_SELECTOR, ".line span"))
            assert (label, number(value)) == (name, pytest.approx(one, abs=0.0006))
            assert f"calibrated {100 * other:.1f}" in item.find_element(By.TAG_NAME, "small").text
            bar = item.find_element(By.CLASS_NAME, "bar")
            width = bar.find_element(By.TAG_NAME, "i").size["width"] / bar.size["width"]
            assert width == pytest.approx(one, abs=0.02)
    mark = browser.find_element(By.CSS_SELECTOR, ".pane li:last-child .bar u")
    bar = browser.find_element(By.CSS_SELECTOR, ".pane li:last-child .bar")
    assert (mark.rect["x"] + 1 - bar.rect["x"]) / bar.rect["width"] == pytest.approx(0.3, abs=0.01)


def _changes_the_display(browser: Browser) -> None:
    """Overlay, its opacity, window and level, zoom: by key and by slider."""
    body = browser.find_element(By.TAG_NAME, "body")
    plain = browser.execute_script(SUM, 0)
    body.send_keys("o")
    settled(browser, 4)
    until(browser, "viewer.panes[0].overlay !== null")
    assert browser.find_element(By.ID, "overlay").is_selected()
    covered = browser.execute_script(SUM, 0)
    slider = browser.find_element(By.ID, "opacity")
    browser.execute_script("arguments[0].value = 0; arguments[0].dispatchEvent(new Event('input'))", slider)
    assert browser.execute_script(SUM, 0) == plain
    slider.send_keys(Keys.HOME)
    for _ in range(3):
        slider.send_keys(Keys.ARROW_RIGHT)
    assert browser.execute_script("return viewer.opacity") == pytest.approx(0.03)
    assert covered != plain
    brightness = browser.find_element(By.ID, "brightness")
    brightness.send_keys(Keys.END)
    assert browser.execute_script(SUM, 0) > plain
    body.send_keys("+")
    assert browser.find_element(By.ID, "zoom").text == "125 %"
    body.send_keys("0")
    assert browser.find_element(By.ID, "zoom").text == "100 %"
    assert brightness.get_attribute("value") == "0"


def _goes_by_key(browser: Browser) -> None:
    """Through the films and the dialogs, with a visible focus."""
    body = browser.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.ARROW_DOWN)
    settled(browser, 4)
    assert browser.find_element(By.ID, "film-title").text == "b.dcm"
    assert browser.find_element(By.ID, "film-facts").text.startswith("DICOM, 64 × 48 pixels")
    focused = browser.switch_to.active_element
    assert (focused.tag_name, focused.value_of_css_property("outline-style")) == ("button", "solid")
    focused.send_keys("?")
    assert browser.find_element(By.ID, "help").is_displayed()
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not browser.find_element(By.ID, "help").is_displayed()
    body.send_keys("m")
    assert "baseline/0" in browser.find_element(By.ID, "card-text").text
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)


def _asks_nobody_else(browser: Browser, url: str) -> None:
    """Nothing but this server was asked, and nothing was against the policy."""
    expected = ("422", "willReadFrequently")  # the film that is none, and what SUM does
    said = [entry["message"] for entry in browser.get_log("browser")]
    assert [message for message in said if not any(each in message for each in expected)] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert {each.split("?")[0] for each in asked if not each.startswith(("data:", "blob:", "chrome"))} == {
        url + name for name in ("", "style.css", "app.js", "viewer.js", "model", "predict")
    }


def _fits_a_phone_in_the_dark(browser: Browser) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 28)"
    assert browser.find_element(By.CLASS_NAME, "research").is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    assert browser.find_element(By.CLASS_NAME, "research").is_displayed()
    assert not browser.find_element(By.ID, "drop").is_displayed()
