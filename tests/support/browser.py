"""A headless Chromium that a test drives: pages from disk, nothing else, and what the console and the network said."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_browser = pytest.mark.skipif(
    shutil.which("chromium") is None or shutil.which("chromedriver") is None, reason="needs chromium and chromedriver"
)


class Browser:
    """One window."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, page: Path, width: int = 1280, height: int = 900, *, dark: bool = False, scripts: bool = True):
        """Load the page anew, at this size and in this colour scheme."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        self.driver.get("about:blank")
        self.console(), self.requests()  # what came before is none of this page's
        self.driver.get(page.as_uri())
        self._wait_for(page)

    def _wait_for(self, page: Path) -> None:
        """On a busy machine `get` has been seen to come back before the page was there."""
        from selenium.webdriver.support.ui import WebDriverWait

        there = f"location.href === {json.dumps(page.as_uri())} && document.readyState === 'complete'"
        asked = {"expression": there, "returnByValue": True}  # by this way also where a page's own scripts are off
        WebDriverWait(self.driver, 30).until(
            lambda driver: driver.execute_cdp_cmd("Runtime.evaluate", asked)["result"].get("value")
        )

    def run(self, script: str, *arguments):
        """What a script returns, which may be a promise."""
        code = f"const done = arguments[arguments.length - 1]; Promise.resolve((() => {{{script}}})()).then(done)"
        return self.driver.execute_async_script(code, *arguments)

    def console(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses that were asked for since the last call, but for what the page holds itself."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [
            event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
        ]
        return [address for address in asked if not address.startswith(("data:", "about:"))]


@contextmanager
def browser() -> Iterator[Browser]:
    """A window without a profile, closed in the end."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
