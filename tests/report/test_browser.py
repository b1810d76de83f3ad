"""The page in a browser: Debian's Chromium, without a window. Skipped where it, or its driver, is not installed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browsers
import finished_findings
import finished_study
import pytest
from browsers import Browser
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.stages import evaluate, report

pytestmark = browsers.needs_browser

HOSTILE = "</script><script>document.title=1</script>$\\x$ =cmd()"
WINDOWS = ((400, 900), (1180, 900))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsers.opened(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report whose images and positive class have names that would run if they were not escaped."""
    changes = {"study": {"title": HOSTILE}}
    given, paths = finished_study.make(tmp_path_factory.mktemp("study"), changes, keep=("baseline", "l2", "dropout"))
    evaluate.run(given, paths)
    report.run(_made_hostile(given, paths), paths)
    return paths.report


def _made_hostile(given: Params, paths: Paths) -> Params:
    """Rename TB and every test image; params.yaml itself would refuse such a class."""
    table = {"TB": HOSTILE, "/test": f"/{HOSTILE}"}
    places = [paths.index, paths.audit, paths.cache / "rows.csv", paths.split, paths.evaluation, paths.predictions]
    found = [file for place in places for file in ([place] if place.is_file() else place.rglob("*"))]
    for file in found:
        if file.suffix in {".csv", ".json"}:
            text = file.read_text(encoding="utf-8")
            for old, new in table.items():
                text = text.replace(old, new.replace("\\", "\\\\") if file.suffix == ".json" else new)
            file.write_text(text, encoding="utf-8")
    data = given.data.model_copy(update={"classes": ["Healthy", HOSTILE], "positive": HOSTILE})
    return given.model_copy(update={"data": data})


def _opened(browser: Browser, page: Path) -> None:
    browser.get(page.as_uri())


def _column(browser: Browser, cell: int) -> list[str]:
    rows = browser.find_elements(By.CSS_SELECTOR, "#comparison .sortable tbody tr:first-child")
    return [row.find_elements(By.CSS_SELECTOR, "th, td")[cell].get_attribute("data-value") for row in rows]


def _requested(browser: Browser) -> list[str]:
    found = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in found if event["method"] == "Network.requestWillBeSent"]
    return [event["request"]["url"] for event in sent if not event["request"]["url"].startswith("data:")]


def test_it_opens_without_errors_and_asks_for_nothing_but_itself(browser: Browser, page: Path) -> None:
    browser.get_log("performance")
    _opened(browser, page)
    assert browser.get_log("browser") == []
    assert _requested(browser) == [page.as_uri()]
    broken = "return [...document.images].filter(image => image.complete && !image.naturalWidth).length"
    assert browser.execute_script(broken) == 0


def test_hostile_names_are_shown_and_do_nothing(browser: Browser, page: Path) -> None:
    _opened(browser, page)
    assert browser.title == HOSTILE
    assert browser.find_element(By.TAG_NAME, "h1").text == HOSTILE
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 1
    captions = [item.text for item in browser.find_elements(By.CSS_SELECTOR, "#pictures figcaption")]
    assert any("$\\x$ =cmd()" in caption for caption in captions)
    heads = [item.text for item in browser.find_elements(By.CSS_SELECTOR, "#experiments .matrices thead th")]
    assert HOSTILE in heads


@pytest.mark.parametrize("key", [None, Keys.ENTER, Keys.SPACE])
def test_a_click_or_a_key_sorts_the_comparison(browser: Browser, page: Path, key: str | None) -> None:
    _opened(browser, page)
    head = browser.find_element(By.CSS_SELECTOR, '#comparison th[data-cell="3"]')
    button = head.find_element(By.TAG_NAME, "button")
    before = [float(value) for value in _column(browser, 3)]
    for state, reverse in (("descending", True), ("ascending", False)):
        button.click() if key is None else button.send_keys(key)
        assert head.get_attribute("aria-sort") == state
        assert [float(value) for value in _column(browser, 3)] == sorted(before, reverse=reverse)


def test_names_sort_as_text(browser: Browser, page: Path) -> None:
    _opened(browser, page)
    browser.find_element(By.CSS_SELECTOR, '#comparison th[data-cell="0"] button').click()
    assert _column(browser, 0) == ["baseline", "dropout", "l2"]


def test_the_first_tab_leads_past_the_contents(browser: Browser, page: Path) -> None:
    _opened(browser, page)
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the report"


@pytest.fixture(scope="module")
def page_of_findings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of NIH's findings, whose names are long."""
    names = ["Pleural_Thickening", "Cardiomegaly", "Consolidation", "Infiltration", "Atelectasis", "Pneumothorax"]
    changes = {"data": {"classes": names}}
    given, paths = finished_findings.make(tmp_path_factory.mktemp("findings"), changes)
    evaluate.run(given, paths)
    report.run(given, paths)
    return paths.report


@pytest.mark.parametrize("size", WINDOWS)
def test_findings_fit_every_window_and_sort(browser: Browser, page_of_findings: Path, size: tuple[int, int]) -> None:
    metrics: dict[str, Any] = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get_log("browser")
    _opened(browser, page_of_findings)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    browser.find_element(By.CSS_SELECTOR, '#findings th[data-cell="2"] button').click()
    rows = browser.find_elements(By.CSS_SELECTOR, "#findings .sortable tbody tr:first-child")
    values = [float(row.find_elements(By.CSS_SELECTOR, "th, td")[2].get_attribute("data-value")) for row in rows]
    assert values == sorted(values, reverse=True)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("size", WINDOWS)
def test_no_window_is_too_narrow(browser: Browser, page: Path, size: tuple[int, int]) -> None:
    metrics: dict[str, Any] = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    _opened(browser, page)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_it_can_be_read_without_its_script(browser: Browser, page: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    _opened(browser, page)
    heads = browser.find_elements(By.CSS_SELECTOR, "#comparison th[data-cell]")
    assert heads[0].text == "Experiment"
    assert not browser.find_elements(By.TAG_NAME, "button")
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
