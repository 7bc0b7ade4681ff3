"""The pages in a real browser: what the user sees, clicks and types.

Screenshots are written to the folder HILUM_SCREENSHOTS, if it is set.
"""

import base64
import os
import re
import shutil
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn

from hilum.service.app import make_app

pytest.importorskip("selenium", reason="the browser tests need the selenium package")
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    *("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"),
    *("disable-component-update", "disable-background-networking", "disable-dev-shm-usage"),
    "hide-scrollbars",
)
TOKEN = "a-long-token-of-the-test"
CHOSEN = "button[data-target][aria-pressed=true]"

WHEEL = """
    const where = { deltaY: -500, clientX: 300, clientY: 400, bubbles: true, cancelable: true };
    arguments[0].dispatchEvent(new WheelEvent("wheel", where));
"""

#: A download is stored as window.saved.
CATCH_DOWNLOADS = """
    const make = URL.createObjectURL;
    URL.createObjectURL = (blob) => { blob.text().then((text) => { window.saved = text; }); return make(blob); };
"""

#: Sends the events of a drop or a paste, as the browser does.
DROP_OR_PASTE = """
    const [kind, name, base64] = arguments;
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name));
    const settings = { bubbles: true, cancelable: true };
    const event = kind === "paste"
        ? new ClipboardEvent("paste", { ...settings, clipboardData: transfer })
        : new DragEvent(kind, { ...settings, dataTransfer: transfer });
    document.body.dispatchEvent(event);
"""

#: Returns the controls without a name, and the texts whose contrast is below WCAG's 4.5:1.
CHECK = """
    const rgb = (css) => { const n = css.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
    const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
    const behind = (element) => {
        for (let e = element; e; e = e.parentElement) {
            const colour = rgb(getComputedStyle(e).backgroundColor);
            if (colour[3] > 0.5) return colour;
        }
        return [0, 0, 0, 1];
    };
    const seen = (e) => e.checkVisibility() && e.getBoundingClientRect().width > 1;
    const named = (e) => e.getAttribute("aria-label") || e.textContent.trim() || e.title || e.labels?.length;
    const controls = [...document.querySelectorAll("button, input, select, a, canvas, [role=meter]")];
    const nameless = controls.filter((e) => seen(e) && !named(e)).map((e) => e.outerHTML.slice(0, 80));
    const faint = [];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const text = walk.currentNode.data.trim(), e = walk.currentNode.parentElement;
        if (!text || !seen(e) || e.closest("script, [disabled], .visually-hidden, .sprite, option")) continue;
        const [high, low] = [light(rgb(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
        const contrast = (high + 0.05) / (low + 0.05);
        if (contrast < 4.5) faint.push(`${text} ${contrast.toFixed(2)}`);
    }
    return [nameless, faint];
"""

#: Whether the curves are drawn at their width on the page, so that their text is not scaled.
PLOT_FITS = """
    const svg = document.querySelector("#curves svg.plot");
    return svg.viewBox.baseVal.width < 390 && Math.abs(svg.viewBox.baseVal.width - svg.clientWidth) < 2;
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="no browser: install chromium and chromium-driver (Debian's packages)",
    ),
]


@pytest.fixture(scope="module")
def address(runs_folder, new_reader):
    """A service for the two runs, in a thread."""
    app = make_app(runs_folder, open_reader=lambda path: new_reader(path.name))
    with serving(app) as where:
        httpx.get(f"{where}/v1/model", timeout=60)
        yield where


@pytest.fixture(scope="module")
def locked_address(runs_folder, new_reader):
    """A service that asks for a token."""
    app = make_app(runs_folder, open_reader=lambda path: new_reader(path.name), token=TOKEN)
    with serving(app) as where:
        yield where


@contextmanager
def serving(app):
    """Serves an app in a thread; gives its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    service = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=service.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    service.should_exit = True
    thread.join(20)
    listening.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One browser for all tests, with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for flag in (*FLAGS, f"user-data-dir={profile}", "window-size=1280,800"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, address):
    """The page for reading images, reloaded, with its model. Its scripts must not log any error."""
    resize(browser, 1280, 800)
    browser.get(f"{address}/?{time.monotonic_ns()}")
    until(browser, lambda: found(browser, ".facts"))
    browser.get_log("browser")
    yield browser
    errors = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert [message for message in errors if "status of 4" not in message] == []


def resize(browser, width, height):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def until(browser, condition, seconds=30):
    return WebDriverWait(browser, seconds, poll_frequency=0.05).until(lambda _: condition())


def found(browser, selector):
    return browser.find_elements(By.CSS_SELECTOR, selector)


def text(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector).text


def save_screenshot(browser, name):
    if folder := os.environ.get("HILUM_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def choose(page, *paths):
    page.find_element(By.ID, "files").send_keys("\n".join(str(path) for path in paths))


def drawn(page):
    """The mean red, green and blue of what the canvas shows, two frames from now."""
    script = """
        const done = arguments[arguments.length - 1];
        requestAnimationFrame(() => requestAnimationFrame(() => {
            const canvas = document.querySelector(".view.active canvas, #detail canvas");
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            const sums = [0, 0, 0];
            for (let place = 0; place < data.length; place += 4)
                for (let channel = 0; channel < 3; channel += 1) sums[channel] += data[place + channel];
            done(sums.map((sum) => (4 * sum) / data.length));
        }));
    """
    return np.array(page.execute_async_script(script))


def press(page, *keys):
    ActionChains(page).send_keys(*keys).perform()


def test_the_empty_page_states_what_it_is_and_is_not(page):
    assert "Research use only" in text(page, ".notice")
    assert "not a medical device" in text(page, ".empty").lower()
    assert "second" in text(page, ".facts")
    save_screenshot(page, "predict-empty")


def test_upload_window_and_heatmap_by_mouse(page, radiographs):
    choose(page, radiographs["deep.png"])
    until(page, lambda: found(page, "button[data-target]"))
    assert "320 × 320 pixels" in text(page, ".panel-head")
    meters = found(page, "[role=meter]")
    assert len(meters) == 3
    suggested = found(page, ".finding.suggested")
    assert suggested
    assert 0.25 <= float(meters[0].get_attribute("aria-valuenow")) <= 1
    assert "threshold 25" in meters[0].get_attribute("aria-valuetext").replace("\xa0", " ")
    assert "suggested" in text(page, "#status")
    [unmeasured] = found(page, ".unmeasured")
    assert "Threshold not measured: no validation image" in unmeasured.text
    assert "Edema" in unmeasured.find_element(By.XPATH, "./ancestor::li").text
    texts = [element.text for element in found(page, ".finding .value, .finding .threshold")]
    assert all(re.fullmatch(r"([≥<] )?\d+\.\d %", value.replace("\xa0", " ")) for value in texts)
    gray = drawn(page)
    assert gray[0] == gray[1] == gray[2] > 10
    canvas = page.find_element(By.CSS_SELECTOR, ".view canvas")
    ActionChains(page).click_and_hold(canvas).move_by_offset(-120, 60).release().perform()
    until(page, lambda: "W 166 · L 158" in text(page, ".corner.display"))
    assert not np.allclose(drawn(page), gray, atol=2)
    page.find_element(By.ID, "reset").click()
    assert np.allclose(drawn(page), gray)
    page.find_element(By.CSS_SELECTOR, "button[data-target]").click()
    until(page, lambda: text(page, ".corner.heatmap-state").startswith("heatmap:"))
    red, _, blue = drawn(page)
    assert red > blue + 3
    page.execute_script(
        "const o=document.getElementById('opacity'); o.value=0; o.dispatchEvent(new Event('input'))"
    )
    assert np.allclose(drawn(page), gray)
    page.execute_script(
        "const o=document.getElementById('opacity'); o.value=45; o.dispatchEvent(new Event('input'))"
    )
    until(page, lambda: "Hiding the hottest area" in text(page, "#heatmap-check"))
    save_screenshot(page, "predict-heatmap")
    page.execute_script(WHEEL, canvas)
    until(page, lambda: "223 %" in text(page, ".corner.display"))


def test_everything_works_by_keyboard(page, radiographs):
    choose(page, radiographs["heart.png"], radiographs["fluid.jpg"])
    until(page, lambda: len(found(page, "#strip .count")) == 2)
    assert "heart.png" in text(page, ".panel-head h2")
    press(page, "n")
    until(page, lambda: "fluid.jpg" in text(page, ".panel-head h2"))
    press(page, "p", "i")
    until(page, lambda: "inverted" in text(page, ".corner.display"))
    press(page, "i", "]", "'", "+")
    until(page, lambda: "W 272 · L 136 · 125 %" in text(page, ".corner.display"))
    press(page, "r", "j")
    until(page, lambda: found(page, CHOSEN))
    first = page.find_element(By.CSS_SELECTOR, CHOSEN)
    assert page.switch_to.active_element.get_attribute("data-target") == first.get_attribute("data-target")
    press(page, Keys.ARROW_DOWN, Keys.ENTER)
    until(page, lambda: found(page, CHOSEN)[0].get_attribute("data-target") != first_target(page))
    press(page, "h")
    until(page, lambda: not found(page, CHOSEN))
    press(page, "s")
    until(page, lambda: len(found(page, ".view")) == 2)
    canvas = page.find_element(By.CSS_SELECTOR, ".view.active canvas")
    page.execute_script("arguments[0].focus()", canvas)
    ActionChains(page).key_down(Keys.SHIFT).send_keys(Keys.ARROW_RIGHT).key_up(Keys.SHIFT).perform()
    until(page, lambda: "Window 264" in canvas.get_attribute("aria-label"))
    press(page, "?")
    until(page, lambda: found(page, "#keys[open]"))
    press(page, "i")  # not while a dialog is open
    press(page, Keys.ESCAPE)
    assert "inverted" not in canvas.get_attribute("aria-label")
    save_screenshot(page, "predict-side-by-side")


def first_target(page):
    return found(page, "button[data-target]")[0].get_attribute("data-target")


def test_tab_goes_through_the_page_in_order(page, radiographs):
    choose(page, radiographs["heart.png"])
    until(page, lambda: found(page, "button[data-target]"))
    page.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    seen = []
    for _ in range(30):
        press(page, Keys.TAB)
        seen.append(
            page.execute_script(
                "const e = document.activeElement; return e.id || e.dataset.target || e.className || e.tagName"
            )
        )
    order = ["skip", "brand", "help", "open", "width", "level", "zoom-in", "invert"]
    order += [first_target(page), "save"]
    places = [seen.index(name) for name in order]
    assert places == sorted(places)


def test_a_broken_file_is_reported_and_the_others_are_read(page, radiographs):
    choose(page, radiographs["heart.png"], radiographs["broken.png"])
    until(page, lambda: len(found(page, "#strip .count")) == 2)
    assert "could not be read" in text(page, "#alert")
    found(page, "#strip button")[1].click()
    until(page, lambda: found(page, ".callout.error"))
    assert "truncated" in text(page, ".callout.error")
    assert "truncated" in text(page, ".center.error")
    save_screenshot(page, "predict-error")
    page.find_element(By.ID, "remove").click()
    until(page, lambda: "heart.png" in text(page, ".panel-head h2"))
    assert not page.find_element(By.ID, "strip").is_displayed()


def test_the_study_is_the_mean_of_its_images_and_can_be_saved(page, radiographs):
    choose(page, radiographs["heart.png"], radiographs["chest.dcm"])
    until(page, lambda: len(found(page, "#strip .count")) == 2)
    page.execute_script(CATCH_DOWNLOADS)
    page.find_element(By.ID, "save").click()
    saved = until(page, lambda: page.execute_script("return window.saved && JSON.parse(window.saved)"))
    assert "Research use only" in saved["research_use"]
    assert [image["image"] for image in saved["images"]] == ["heart.png", "chest.dcm"]
    assert saved["images"][1]["view"] == "PA"
    assert "pixels" not in saved["images"][0]
    for of_study in saved["study"]["findings"]:
        each = [
            next(one["probability"] for one in image["findings"] if one["finding"] == of_study["finding"])
            for image in saved["images"]
        ]
        assert of_study["probability"] == pytest.approx(np.mean(each))
    found(page, ".switch button")[1].click()
    until(page, lambda: "mean probability over 2 images" in text(page, ".panel-head"))
    page.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    printed = page.execute_script("return document.getElementById('print').textContent")
    assert "Research use only" in printed
    assert "chest.dcm" in printed


def test_the_printout_has_findings_and_caveats(page, radiographs):
    choose(page, radiographs["heart.png"], radiographs["broken.png"])
    until(page, lambda: len(found(page, "#strip .count")) == 2)
    page.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        resize(page, 794, 1123)  # A4 at 96 dots per inch
        printed = text(page, "#print")
        assert "Research use only. Not a medical device" in printed
        assert "threshold not measured" in printed
        assert "Not read: " in printed
        assert page.find_element(By.CSS_SELECTOR, "#print img").size["width"] > 200
        assert not page.find_element(By.ID, "strip").is_displayed()
        save_screenshot(page, "predict-print")
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_files_are_dropped_and_pasted(page, radiographs):
    heart, chest = (
        base64.b64encode(radiographs[name].read_bytes()).decode() for name in ("heart.png", "chest.dcm")
    )
    page.execute_script(DROP_OR_PASTE, "dragenter", "heart.png", heart)
    assert page.find_element(By.ID, "dropping").is_displayed()
    page.execute_script(DROP_OR_PASTE, "drop", "heart.png", heart)
    until(page, lambda: found(page, "button[data-target]"))
    assert not page.find_element(By.ID, "dropping").is_displayed()
    page.execute_script(DROP_OR_PASTE, "paste", "chest.dcm", chest)
    until(page, lambda: len(found(page, "#strip .count")) == 2)
    names = [button.get_attribute("aria-label") for button in found(page, "#strip button")]
    assert ["heart.png" in names[0], "chest.dcm" in names[1]] == [True, True]


def test_the_images_of_a_folder_are_read(page, radiographs, tmp_path):
    for name in ("heart.png", "chest.dcm"):
        shutil.copy(radiographs[name], tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    page.find_element(By.ID, "folder").send_keys(str(tmp_path))
    until(page, lambda: len(found(page, "#strip .count")) == 2)
    names = " ".join(button.get_attribute("aria-label") for button in found(page, "#strip button"))
    assert "chest.dcm" in names
    assert "notes.txt" not in names


def test_the_page_asks_for_the_token_until_it_is_right(browser, locked_address, radiographs):
    resize(browser, 1280, 800)
    browser.get(locked_address)
    until(browser, lambda: found(browser, "#token[open]"))
    assert not found(browser, ".facts")
    press(browser, "wrong", Keys.ENTER)
    until(browser, lambda: browser.find_element(By.CSS_SELECTOR, "#token [data-wrong]").is_displayed())
    save_screenshot(browser, "predict-token")
    press(browser, TOKEN, Keys.ENTER)
    until(browser, lambda: found(browser, ".facts"))
    assert not found(browser, "#token[open]")
    choose(browser, radiographs["heart.png"])
    until(browser, lambda: found(browser, "button[data-target]"))


def test_nothing_is_wider_than_a_phone(page, radiographs):
    resize(page, 390, 844)
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    save_screenshot(page, "phone-empty")
    choose(page, radiographs["heart.png"], radiographs["fluid.jpg"])
    until(page, lambda: len(found(page, "#strip .count")) == 2)
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    assert page.find_element(By.CSS_SELECTOR, ".notice").is_displayed()
    toolbar = page.find_element(By.CSS_SELECTOR, ".toolbar")
    assert page.execute_script("return arguments[0].scrollWidth <= arguments[0].clientWidth", toolbar)
    assert {button.is_displayed() for button in toolbar.find_elements(By.TAG_NAME, "button")} == {True}
    save_screenshot(page, "phone-predict")
    page.find_element(By.CSS_SELECTOR, "button[data-target]").click()
    until(page, lambda: "Hiding the hottest area" in text(page, "#heatmap-check"))
    page.execute_script("document.getElementById('findings').scrollIntoView()")
    save_screenshot(page, "phone-findings")


def test_every_control_has_a_name_and_every_text_enough_contrast(page, radiographs):
    choose(page, radiographs["heart.png"])
    until(page, lambda: found(page, "button[data-target]"))
    page.find_element(By.CSS_SELECTOR, "button[data-target]").click()
    until(page, lambda: found(page, ".explanation"))
    nameless, faint = page.execute_script(CHECK)
    assert nameless == []
    assert faint == []


def test_runs_are_sorted_filtered_and_drawn(page, address):
    page.get(f"{address}/runs")
    until(page, lambda: len(found(page, "#curves svg.plot path")) == 2)
    assert "Research use only" in text(page, ".notice")
    names = lambda: [element.text for element in found(page, "#runs-table .name")]  # noqa: E731
    assert names() == ["first", "second"]
    headings = [element.text for element in found(page, "#runs-table th button.sort")]
    assert headings[-1] == "learning_rate"
    assert not {"num_epochs", "batch_size"} & set(headings)
    found(page, "#runs-table th button.sort")[3].click()
    until(page, lambda: names() == ["second", "first"])
    assert page.switch_to.active_element.text.startswith("ROC AUC")
    page.find_element(By.ID, "search").send_keys("learning_rate=0.0001")
    until(page, lambda: names() == ["first"])
    page.find_element(By.ID, "search").send_keys(Keys.CONTROL, "a", Keys.NULL, Keys.BACKSPACE)
    until(page, lambda: len(names()) == 2)
    page.find_element(By.ID, "all-settings").click()
    until(page, lambda: "batch_size" in text(page, "#runs-table"))
    nameless, faint = page.execute_script(CHECK)
    assert nameless == []
    assert faint == []
    save_screenshot(page, "runs-table-all")
    page.find_element(By.ID, "all-settings").click()
    save_screenshot(page, "runs-table")
    resize(page, 390, 844)
    until(page, lambda: page.execute_script(PLOT_FITS))
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    last = page.find_element(By.CSS_SELECTOR, ".tabs a:last-child")
    assert last.rect["x"] + last.rect["width"] <= 390
    save_screenshot(page, "phone-runs-table")
    page.execute_script("document.getElementById('curves').scrollIntoView()")
    save_screenshot(page, "phone-runs-curves")


def test_two_runs_are_compared(page, address):
    page.get(f"{address}/runs#comparison?a=first&b=second")
    until(page, lambda: found(page, ".means"), seconds=60)
    assert "One thing differs: learning_rate" in text(page, ".verdict-head")
    assert len(found(page, "#compared .scroll[role=region] tbody tr")) == 3
    assert page.execute_script(CHECK) == [[], []]
    save_screenshot(page, "runs-comparison")


def test_missed_images_have_a_heatmap_and_a_history(page, address):
    page.get(f"{address}/runs#images?run=first")
    until(page, lambda: found(page, ".gallery img"))
    found(page, ".gallery button")[0].click()
    until(page, lambda: found(page, "#detail svg.plot path"))
    until(page, lambda: not found(page, ".image-view .center:not([hidden])"))
    gray = drawn(page)
    assert gray[0] == gray[1] == gray[2] > 10
    page.find_element(By.ID, "detail-heatmap").click()
    until(page, lambda: "Evidence for" in text(page, "#detail"))
    red, _, blue = drawn(page)
    assert red > blue + 1
    assert "missed" in text(page, "#detail tr.chosen")
    save_screenshot(page, "runs-image")
    resize(page, 390, 844)
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    save_screenshot(page, "phone-runs-image")
