"""A real headless Chromium for tests of pages; tests that use it are skipped, with the reason, where there is none.

Import `browser` into a conftest to use it: one Chromium per module, every `Browser.open` starts from a clean state.
"""

import json
import os
import shutil

import pytest

WAIT = 60  # seconds; a loaded machine is slow, and conditions are waited for, not times
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
    "--autoplay-policy=no-user-gesture-required", "--mute-audio", "--force-device-scale-factor=1",
)  # fmt: skip


class Browser:
    """Chromium with one page. `driver` is Selenium's, for what is not here.

    Attributes:
        driver: ``selenium.webdriver.Chrome``.
    """

    def __init__(self, driver):
        self.driver = driver

    def open(self, path, width=1280, height=900, dark=False):
        """Load a file (or a ``http://127.0.0.1...`` address) afresh; what earlier pages logged is forgotten."""
        self.driver.get("about:blank")
        self.look(width, height, dark)
        for name in ("browser", "performance"):
            self.driver.get_log(name)
        self.driver.get(path if str(path).startswith("http://127.0.0.1") else path.resolve().as_uri())
        self.wait("document.readyState === 'complete'")
        return self

    def look(self, width=1280, height=900, dark=False):
        """Size of the window's inside in CSS pixels, and the colour scheme that the reader prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def run(self, expression, *arguments):
        """Value of a JavaScript expression; ``arguments[0]``, ... are what follows it."""
        return self.driver.execute_script(f"return ({expression});", *arguments)

    def wait(self, expression, *arguments):
        """Wait until an expression is true, and return its value."""
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.ui import WebDriverWait

        try:
            return WebDriverWait(self.driver, WAIT, 0.05).until(lambda _: self.run(expression, *arguments))
        except TimeoutException:
            raise AssertionError(f"never true: {expression}; console: {self.console()}") from None

    def all(self, selector):
        """Elements by CSS selector."""
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        """The one element that a CSS selector finds."""
        (found,) = self.all(selector)
        return found

    def press(self, *keys):
        """Press keys one after the other where the focus is: letters, or names of ``selenium``'s ``Keys`` (``TAB``)."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        for key in keys:
            ActionChains(self.driver, duration=0).send_keys(getattr(Keys, key, key)).perform()

    def hover(self, element):
        """Move the mouse to the middle of an element, which is scrolled into view first."""
        from selenium.webdriver.common.action_chains import ActionChains

        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        ActionChains(self.driver, duration=0).move_to_element(element).perform()

    def console(self):
        """Messages of the console since the last call or `open`: errors, warnings, what a content policy refused."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self):
        """Addresses that the page asked for since the last call or `open`, ``data:`` and ``blob:`` left out."""
        found = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                url = message["params"].get("url") or message["params"]["request"]["url"]
                found += [] if url.startswith(("data:", "blob:")) else [url]
        return found

    def downloads_to(self, folder):
        """Let the page save files into a folder."""
        where = {"behavior": "allow", "downloadPath": str(folder)}
        self.driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)

    def shot(self, path, whole=True):
        """A PNG of the page, or of what is in view."""
        import base64

        taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": whole})
        path.write_bytes(base64.b64decode(taken["data"]))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A `Browser`; skips where Chromium, its driver or Selenium is missing, or where it does not start."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (extra 'test')")
    from selenium.common.exceptions import WebDriverException

    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    program, server = next(filter(None, map(shutil.which, names)), None), shutil.which("chromedriver")
    if program is None or server is None:
        pytest.skip(f"no {'Chromium' if program is None else 'chromedriver'} on PATH")
    options = selenium.ChromeOptions()
    options.binary_location = program
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(argument)
    os.environ["SE_OFFLINE"] = "true"  # nothing is looked for on the network
    try:
        driver = selenium.Chrome(options=options, service=selenium.ChromeService(executable_path=server))
    except WebDriverException as error:
        pytest.skip(f"Chromium does not start: {str(error).splitlines()[0]}")
    driver.set_page_load_timeout(180)
    driver.set_script_timeout(WAIT)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
