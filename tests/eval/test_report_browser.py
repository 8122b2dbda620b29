"""The report in a real browser: opened, stepped through, switched, printed. Skipped without one.

The browser is driven over the WebDriver protocol (W3C), which chromedriver speaks on a local port;
no package is needed for that.
"""

import base64
import contextlib
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from tests.eval.test_report import SCENES, SECTIONS, make_files, make_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--window-size=1280,900",
)
KEYS = {"left": "\ue012", "right": "\ue014", "tab": "\ue004", "space": " "}
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name of a reference
START_S = 60


class Browser:
    """A session of a headless Chromium."""

    def __init__(self, port, binary):
        self._root = f"http://127.0.0.1:{port}"
        chrome = {"args": list(OPTIONS), "binary": binary}
        wanted = {"goog:chromeOptions": chrome, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._send("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._root += f"/session/{session['sessionId']}"

    def _send(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._root + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=START_S) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            said = json.load(error)["value"]["message"]
            raise RuntimeError(f"{path}: {said}") from error

    def open(self, path):
        self._send("POST", "/url", {"url": path.as_uri()})

    def run(self, script, *arguments):
        return self._send("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, selector):
        return self._send("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        self._send("POST", f"/element/{self.find(selector)}/click", {})

    def press(self, *names):
        actions = [
            {"type": kind, "value": KEYS[name]} for name in names for kind in ("keyDown", "keyUp")
        ]
        keys = {"type": "key", "id": "keys", "actions": actions}
        self._send("POST", "/actions", {"actions": [keys]})

    def command(self, name, **parameters):
        return self._send("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def use_colours(self, scheme):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.command("Emulation.setEmulatedMedia", features=[feature])

    def screenshot(self):
        return base64.b64decode(self._send("GET", "/screenshot"))

    def print(self):
        return base64.b64decode(self._send("POST", "/print", {"background": True}))

    def messages(self):
        return [entry["message"] for entry in self._send("POST", "/se/log", {"type": "browser"})]

    def quit(self):
        self._send("DELETE", "")


@contextlib.contextmanager
def browsing():
    """Start chromedriver and a browser; skip where there is none."""
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no chromium and chromedriver on PATH")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port)
        browser = Browser(port, binary)
        try:
            yield browser
        finally:
            browser.quit()
    finally:
        process.terminate()
        process.wait()


def wait_for(port):
    """Wait until chromedriver answers."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5) as answer:
                if json.load(answer)["value"]["ready"]:
                    return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    pytest.fail("chromedriver did not start")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = make_files(tmp_path_factory.mktemp("browser"))
    make_report(folder, "--against", folder / "run.json")
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    with browsing() as found:
        yield found


@pytest.fixture
def opened(browser, report):
    """Open the report anew; afterwards nothing may have been complained of."""
    browser.use_colours("light")
    browser.open(report)
    browser.run("document.documentElement.style.scrollBehavior = 'auto'")
    browser.run("document.getElementById('viewer').scrollIntoView()")
    yield browser
    assert browser.messages() == []


def shown_slide(browser):
    """Number of the one slide that is shown."""
    (number,) = browser.run(
        "return [...document.querySelectorAll('.slide')]"
        ".map((slide, i) => slide.checkVisibility() ? i : -1).filter(i => i >= 0)"
    )
    return number


def is_shown(browser, selector):
    return browser.run(
        "return document.querySelector(arguments[0]).getBoundingClientRect().width > 0",
        f".slide:not([hidden]) {selector}",
    )


def test_nothing_is_wider_than_the_window(opened):
    assert opened.run("return document.querySelectorAll('main > section').length") == len(SECTIONS)
    for width in (1280, 390):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        opened.command("Emulation.setDeviceMetricsOverride", **size)
        assert opened.run("return document.documentElement.scrollWidth") <= width
    opened.command("Emulation.clearDeviceMetricsOverride")


def test_buttons_arrows_and_list_step_through_the_images(opened):
    last = len(SCENES) - 2  # one has no prediction
    assert shown_slide(opened) == 0
    opened.click("#next")
    assert shown_slide(opened) == 1
    opened.click("#previous")
    opened.click("#previous")
    assert shown_slide(opened) == last
    opened.press("right")
    assert shown_slide(opened) == 0
    opened.press("right", "right", "left")
    assert shown_slide(opened) == 1
    opened.click(f".list a[href='#slide-{last}']")
    assert shown_slide(opened) == last
    current = opened.run("return document.querySelector('[aria-current]').getAttribute('href')")
    assert current == f"#slide-{last}"
    said = opened.run("return document.getElementById('position').textContent")
    assert said.startswith(f"{last + 1} of {last + 1}, best: ")


def test_arrows_are_left_alone_in_tables_and_out_of_view(opened):
    opened.run("document.querySelector('#errors .scroll').focus()")
    opened.press("right")
    assert shown_slide(opened) == 0
    opened.run("document.activeElement.blur(); window.scrollTo(0, 0)")
    opened.press("right")
    assert shown_slide(opened) == 0


@pytest.mark.parametrize("layer", ["image", "true", "pred", "errors"])
def test_layers_are_switched_by_mouse_and_by_keyboard(opened, layer):
    assert is_shown(opened, f".layer-{layer}")
    opened.click(f"#layer-{layer}")
    assert not is_shown(opened, f".layer-{layer}")
    opened.press("space")  # the box has the focus
    assert is_shown(opened, f".layer-{layer}")


def test_outlines_are_as_thin_on_small_pictures_as_on_large_ones(opened):
    # A rule for the strokes that does not reach referenced paths would scale them.
    effects = opened.run(
        "return [...document.querySelectorAll('.overlay defs path[id]')]"
        ".map(path => getComputedStyle(path).vectorEffect)"
    )
    assert set(effects) == {"non-scaling-stroke"}


def test_the_first_tab_stop_skips_to_the_figures(opened, report):
    opened.open(report)  # anew: what was scrolled to is where the tab key goes on from
    opened.press("tab")
    assert opened.run("return document.activeElement.getAttribute('href')") == "#main"
    outline = opened.run("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_text_stands_out_on_either_ground(opened):
    for scheme in ("light", "dark"):
        opened.use_colours(scheme)
        for selector in ("body", ".small", "caption", "thead th", ".plot .tick", "button", "a"):
            assert contrast(opened, selector) >= 4.5, (scheme, selector)


def test_a_printed_page_has_every_image_and_all_tables(opened):
    opened.command("Emulation.setEmulatedMedia", media="print")
    shown = opened.run(
        "return [...document.querySelectorAll('.slide')].filter(s => s.checkVisibility()).length"
    )
    assert shown == len(SCENES) - 1
    assert not opened.run("return document.querySelector('.controls').checkVisibility()")
    opened.command("Emulation.setEmulatedMedia", media="")
    assert opened.print().startswith(b"%PDF")
    # What was opened for the paper is closed again.
    assert opened.run("return document.querySelectorAll('details[open]').length") == 0


def contrast(browser, selector):
    """Contrast of an element's text with the page's ground or its own (WCAG 2.2, 1.4.3)."""
    colours = browser.run(
        """const own = getComputedStyle(document.querySelector(arguments[0]));
        const page = getComputedStyle(document.documentElement);
        const isText = document.querySelector(arguments[0]).namespaceURI.endsWith("xhtml");
        const ground = own.backgroundColor === "rgba(0, 0, 0, 0)" ? page : own;
        return [isText ? own.color : own.fill, ground.backgroundColor]""",
        selector,
    )
    first, second = sorted(map(luminance, colours))
    return (second + 0.05) / (first + 0.05)


def luminance(colour):
    """Relative luminance of a colour as browsers write it: rgb(r, g, b)."""
    channels = [int(v) / 255 for v in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
