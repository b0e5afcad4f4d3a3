"""Chromium without a window, driven through a pair of pipes: pages opened at a width, looked at, printed."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

#: What Debian, Ubuntu and Google call it.
NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Chromium reads from the descriptor 3 and writes to 4.
LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for place, end in zip((3, 4), ends):
    os.dup2(end, place)
os.execv(sys.argv[3], sys.argv[3:])
"""


def executable() -> str | None:
    """Return Chromium's path, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """A browser with one page.

    Attributes
    ----------
    complaints
        What the page wrote to the console, errors of scripts, and whatever it asked for beside itself.
    """

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self._numbers = itertools.count(1)
        self._waiting = b""

    def __enter__(self) -> "Chromium":
        command = executable()
        assert command is not None
        self._profile = tempfile.TemporaryDirectory(prefix="chromium", ignore_cleanup_errors=True)
        options = ["--headless", "--remote-debugging-pipe", f"--user-data-dir={self._profile.name}", "--disable-gpu"]
        options += ["--no-first-run", "--hide-scrollbars", "--disable-dev-shm-usage"]
        options += ["--no-sandbox"] if os.geteuid() == 0 else []  # It refuses root otherwise.
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", LAUNCH, str(theirs_in), str(theirs_out), command, *options, "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        pages = self._ask("Target.getTargets")["targetInfos"]
        target = next(page["targetId"] for page in pages if page["type"] == "page")
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._to)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._from)
        self._profile.cleanup()

    def open(self, page: Path, width: int, height: int = 900) -> None:
        """Open a page in a window of that size, of a phone where it is narrow, and wait until it is there."""
        self.complaints.clear()
        phone = width < 600
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self._loaded = False
        self._page = page.resolve().as_uri()
        self.ask("Page.navigate", url=self._page)
        while not self._loaded:
            self._take(self._message())

    def run(self, script: str) -> Any:
        """Return the value of an expression of JavaScript in the page, awaited."""
        answer = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def screenshot(self, path: Path, whole: bool = True, clip: tuple[int, int, int, int] | None = None) -> None:
        """Save the page as a PNG: all of it, the window alone, or the clip (x, y, width, height)."""
        size: dict[str, Any] = {}
        if clip is not None:
            size = {"clip": dict(zip(("x", "y", "width", "height"), clip, strict=True)) | {"scale": 1}}
        answer = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **size)
        path.write_bytes(base64.b64decode(answer["data"]))

    def print(self) -> bytes:
        """Return the page as a PDF of A4."""
        answer = self.ask("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=True)
        return base64.b64decode(answer["data"])

    def ask(self, method: str, **parameters: Any) -> Any:
        """Send a command of the DevTools protocol to the page, and return the answer."""
        return self._ask(method, self._session, **parameters)

    def _ask(self, method: str, session: str = "", **parameters: Any) -> Any:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._to, content) :]
        while True:
            answer = self._message()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._take(answer)

    def _message(self) -> Any:
        while b"\0" not in self._waiting:
            piece = os.read(self._from, 1 << 20)
            assert piece, "Chromium ended."
            self._waiting += piece
        message, _, self._waiting = self._waiting.partition(b"\0")
        return json.loads(message)

    def _take(self, event: Any) -> None:
        method, said = event.get("method"), event.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(f"console.{said['type']}: {[one.get('value') for one in said['args']]}")
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(f"exception: {said['exceptionDetails']['text']}")
        elif method == "Log.entryAdded":
            self.complaints.append(f"{said['entry']['level']}: {said['entry']['text']}")
        elif method == "Network.requestWillBeSent":
            url = said["request"]["url"]
            if not url.startswith("data:") and url != self._page and url != "about:blank":
                self.complaints.append(f"request: {url[:200]}")
