"""Chromium without a window, driven by the DevTools protocol over a pipe.

By hand, pictures of a page: `python -m tests.run.report.chromium PAGE.html OUT_DIRECTORY`.
"""

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECS = 60

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # as root in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--remote-debugging-pipe",
)


def find():
    """The program, None where it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


LOADED = """
new Promise(done => document.readyState == "complete" ? done() : addEventListener("load", done))
  .then(() => {})
"""

BROKEN_PICTURES = """
Promise.all([...document.images].map(
  picture => picture.decode().then(() => "", () => picture.alt || "no alt")
)).then(alts => alts.filter(alt => alt))
"""


class Tab:
    """One tab: calls of the protocol, and the events that came meanwhile."""

    def __init__(self, to_browser, from_browser):
        self._to, self._from = to_browser, from_browser
        self._ids = itertools.count(1)
        self._buffer = b""
        self._session = None
        self.events = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        attached = self("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def __call__(self, method, **parameters):
        """The result of one call."""
        message = {"id": next(self._ids), "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == message["id"]:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def _next(self):
        deadline = time.monotonic() + SECS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"chromium was silent for {SECS} s"
            read = os.read(self._from, 2**20)
            assert read, "chromium has ended"
            self._buffer += read
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, page, *, width, dark=False, height=800):
        """Loads a file in a window of that many CSS pixels, and forgets what came before."""
        self(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self("Page.navigate", url=Path(page).absolute().as_uri())
        self.evaluate(LOADED)

    def evaluate(self, expression):
        """The value of an expression of JavaScript in the page."""
        result = self(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def complaints(self):
        """Texts of the console's errors and warnings, and of exceptions, since the page opened."""
        found = []
        for event in self.events:
            parameters = event.get("params", {})
            if event["method"] == "Log.entryAdded":
                found.append(parameters["entry"]["text"])
            elif event["method"] == "Runtime.exceptionThrown":
                found.append(parameters["exceptionDetails"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled":
                found.append(str(parameters["args"]))
        return found

    def requested(self):
        """The addresses that were asked for since the page opened."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def picture(self):
        """PNG of the whole page."""
        shot = self("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])


def pipe():
    """Both ends, above 9: the browser reads its calls from 3 and answers to 4."""
    low = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in low]
    for end in low:
        os.close(end)
    return high


@contextlib.contextmanager
def browser():
    """A tab in a browser of its own, which ends with it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        (calls, to_browser), (from_browser, answers) = pipe(), pipe()
        process = subprocess.Popen(
            [
                "bash",
                "-c",
                f'exec "$@" 3<&{calls} 4>&{answers}',
                "bash",
                find(),
                *ARGUMENTS,
                f"--user-data-dir={profile}",
                f"--crash-dumps-dir={profile}",
            ],
            pass_fds=(calls, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(calls)
        os.close(answers)
        try:
            yield Tab(to_browser, from_browser)
        finally:
            os.close(to_browser)  # the browser ends when nobody can call it any more
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(from_browser)


def faults(tab, page, *, width, dark=False):
    """What is wrong with a page in a window of that width, one text each."""
    tab.open(page, width=width, dark=dark)
    broken = tab.evaluate(BROKEN_PICTURES)
    found = [f"picture not loaded: {alt}" for alt in broken]
    wide = tab.evaluate("document.documentElement.scrollWidth")
    if wide > width:
        found.append(f"{wide} pixels wide in a window of {width}")
    here = Path(page).absolute().as_uri()
    asked = [url for url in tab.requested() if url != here and not url.startswith("data:")]
    found += [f"asked for {url}" for url in asked]
    return found + [f"console: {text}" for text in tab.complaints()]


def main():
    page, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    with browser() as tab:
        for width, dark in itertools.product((375, 1280), (False, True)):
            print(faults(tab, page, width=width, dark=dark) or "nothing wrong")
            file = out / f"{page.stem}_{width}_{'dark' if dark else 'light'}.png"
            file.write_bytes(tab.picture())
            print(file)


if __name__ == "__main__":
    main()
