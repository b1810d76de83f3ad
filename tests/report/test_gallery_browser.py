"""The gallery in a browser: its numbers are the evaluation's, at any threshold, and the images go with them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browsers
import finished_findings
import finished_study
import numpy as np
import pytest
from browsers import Browser
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from xraylab.evaluate import predictions
from xraylab.evaluate.metrics import class_rates
from xraylab.evaluate.multi_label import samples
from xraylab.evaluate.operating_points import apply_threshold
from xraylab.evaluate.samples import Sample
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.report.gallery import page
from xraylab.stages import evaluate, report

pytestmark = [browsers.needs_browser, pytest.mark.slow]

HOSTILE = "</script><script>document.title=1</script>"
COVID = {"data": {"classes": ["Covid", "Normal", "Pneumonia"], "positive": None}}
POSITIONS = (0.0, 0.3, 0.5, 0.9, 1.0)
PREVALENCE = 0.07


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsers.opened(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def _finished(params: Params, paths: Paths, one_file: int = 1000) -> tuple[Params, Paths]:
    evaluate.run(params, paths)
    page.write(report.read(params, paths), paths.gallery, one_file)
    return params, paths


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> tuple[Params, Paths]:
    """Two repeats, whose image names would run if they were not escaped."""
    params, paths = finished_study.make(tmp_path_factory.mktemp("binary"), {"study": {"repeats": [0, 1]}}, skill=1.0)
    tables = [paths.index, paths.cache / "rows.csv", *paths.predictions.rglob("*.csv"), *paths.split.glob("*.csv")]
    for path in tables:
        path.write_text(path.read_text().replace("/test", f"/{HOSTILE}"))
    return _finished(params, paths)


def _open(browser: Browser, paths: Paths) -> None:
    browser.get_log("browser")
    browser.get((paths.gallery / "index.html").as_uri())
    WebDriverWait(browser, 20).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, "#images img"))


def _choose(browser: Browser, name: str, value: object, kind: str = "change") -> None:
    script = """const chosen = document.getElementById(arguments[0]);
    chosen.value = arguments[1];
    chosen.dispatchEvent(new Event(arguments[2]));"""
    browser.execute_script(script, name, value, kind)


def _panel(browser: Browser, number: int = 0) -> WebElement:
    return browser.find_elements(By.CSS_SELECTOR, ".panel")[number]


def _move(browser: Browser, part: float) -> float:
    """Move the first slider to a part of its way; the threshold there."""
    script = """const slider = document.querySelector(".slider");
    slider.value = Math.round(arguments[0] * slider.max);
    slider.dispatchEvent(new Event("input"));
    return document.querySelector(".exact").valueAsNumber;"""
    return float(browser.execute_script(script, part))


def _measured(panel: WebElement) -> dict[str, float]:
    cells = panel.find_elements(By.CSS_SELECTOR, "[data-rate]")
    return {str(cell.get_attribute("data-rate")): float(str(cell.get_attribute("data-value"))) for cell in cells}


def _expected(sample: Sample, label: int, threshold: float) -> dict[str, float]:
    at = apply_threshold(sample, label, threshold, 0.95)
    counts = {"tn": at.tn, "fp": at.fp, "fn": at.fn, "tp": at.tp}
    rates = {rate.name: np.nan if rate.value is None else rate.value for rate in at.rates}
    matrix, prevalence = np.array([[at.tn, at.fp], [at.fn, at.tp]]), np.array([1 - PREVALENCE, PREVALENCE])
    assumed = class_rates(matrix, prevalence=prevalence)
    return counts | rates | {f"{name}-assumed": assumed[f"{name}_at_prevalence"][1] for name in ("ppv", "npv")}


def _check(browser: Browser, sample: Sample, label: int) -> None:
    """Every number of the first panel, at several places of the slider and at a threshold that is typed in."""
    _choose(browser, "prevalence", 100 * PREVALENCE, "input")
    for part in POSITIONS:
        threshold = _move(browser, part)
        assert threshold in sample.probabilities[:, label]
        assert _measured(_panel(browser)) == pytest.approx(_expected(sample, label, threshold), rel=1e-12, nan_ok=True)
    exact = _panel(browser).find_element(By.CLASS_NAME, "exact")
    exact.clear()
    exact.send_keys("1", Keys.ENTER)
    assert _measured(_panel(browser)) == pytest.approx(_expected(sample, label, 1.0), rel=1e-12, nan_ok=True)


def test_two_classes(browser: Browser, binary: tuple[Params, Paths]) -> None:
    params, paths = binary
    _open(browser, paths)
    _choose(browser, "first", "l2")
    _choose(browser, "repeat", "1")
    runs = predictions.read_study(paths, params).runs
    run = next(each for each in runs if (each.experiment, each.repeat) == ("l2", 1))
    _check(browser, run.test["best"], 1)
    threshold = _move(browser, 0.6)
    _choose(browser, "show", "fn")
    missed = (run.test["best"].actual == 1) & (run.test["best"].probabilities[:, 1] < threshold)
    shown = browser.find_elements(By.CSS_SELECTOR, "#images .name")
    assert {each.text for each in shown} == set(run.ids[missed].tolist())
    assert 0 < len(shown) < 8
    assert browser.title == f"Test images: {params.study.title}"
    assert browser.get_log("browser") == []


def test_the_page_says_whether_a_threshold_was_fixed_before(browser: Browser, binary: tuple[Params, Paths]) -> None:
    _open(browser, binary[1])
    panel = _panel(browser)
    fixed, here = (panel.find_element(By.CLASS_NAME, name) for name in ("fixed", "chosen-here"))
    assert (fixed.is_displayed(), here.is_displayed()) == (True, False)
    slider = panel.find_element(By.CLASS_NAME, "slider")
    before = slider.get_attribute("aria-valuetext")
    slider.send_keys(Keys.ARROW_LEFT)
    assert slider.get_attribute("aria-valuetext") != before
    assert (fixed.is_displayed(), here.is_displayed()) == (False, True)
    for button in panel.find_elements(By.CSS_SELECTOR, ".points button"):
        button.send_keys(Keys.ENTER)
        assert button.get_attribute("aria-pressed") == "true"
        assert fixed.is_displayed()


def test_two_experiments_side_by_side(browser: Browser, binary: tuple[Params, Paths]) -> None:
    params, paths = binary
    _open(browser, paths)
    _choose(browser, "first", "baseline")
    _choose(browser, "second", "l2")
    _choose(browser, "show", "second")
    one, two = (
        next(run for run in predictions.read_study(paths, params).runs if (run.experiment, run.repeat) == (name, 0))
        for name in ("baseline", "l2")
    )
    right = [(run.test["best"].probabilities[:, 1] >= 0.5) == (run.test["best"].actual == 1) for run in (one, two)]
    shown = {each.text for each in browser.find_elements(By.CSS_SELECTOR, "#images .name")}
    assert shown == set(one.ids[~right[0] & right[1]].tolist()) != set()
    browser.find_element(By.CSS_SELECTOR, "#images button").send_keys(Keys.ENTER)
    heads = [each.text for each in browser.find_elements(By.CSS_SELECTOR, "#enlarged-table thead th")]
    assert heads == ["", "Label", "p, baseline", "p, l2"]
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not browser.find_element(By.ID, "enlarged").is_displayed()


def test_several_classes(browser: Browser, tmp_path: Path) -> None:
    params, paths = _finished(*finished_study.make(tmp_path, COVID, skill=1.0))
    _open(browser, paths)
    run = predictions.read_study(paths, params).runs[0]
    _choose(browser, "first", "baseline")
    right = browser.find_element(By.CLASS_NAME, "most-probable")
    assert int(str(right.get_attribute("data-value"))) == (run.test["best"].predicted == run.test["best"].actual).sum()
    _choose(browser, "column", 2)
    _check(browser, run.test["best"], 2)


def test_several_findings(browser: Browser, tmp_path: Path) -> None:
    params, paths = _finished(*finished_findings.make(tmp_path))
    _open(browser, paths)
    run = samples.read_study(paths, params).runs[1]
    _choose(browser, "first", run.experiment)
    _choose(browser, "column", 3)
    _check(browser, run.of(3).test["best"], 1)


@pytest.mark.parametrize("width", [390, 1280])
def test_a_folder_loads_what_lies_in_it(browser: Browser, tmp_path: Path, width: int) -> None:
    _, paths = _finished(*finished_study.make(tmp_path, skill=1.0), one_file=5)
    metrics: dict[str, Any] = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    _open(browser, paths)
    assert not list(paths.gallery.glob("*.js"))
    loaded = "return [...document.querySelectorAll('#images img')].filter(image => image.naturalWidth).length"
    WebDriverWait(browser, 20).until(lambda driver: driver.execute_script(loaded) > 1)
    _choose(
        browser, "second", "l2" if browser.find_element(By.ID, "first").get_attribute("value") != "l2" else "baseline"
    )
    WebDriverWait(browser, 20).until(lambda driver: len(driver.find_elements(By.CLASS_NAME, "panel")) == 2)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
