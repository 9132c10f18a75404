"""Headless Chromium over its debugging pipe: pages as a reader's browser shows them.

The protocol is JSON between zero bytes (https://chromedevtools.github.io/devtools-protocol/), so
that nothing but the browser itself is needed.
"""

from __future__ import annotations

import base64
import io
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WAIT_SECONDS = 60
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # as root, in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",
)


def find_chromium() -> str | None:
    """The first browser there is."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One browser with one page, until `close`."""

    def __init__(self, program: str, profile: Path) -> None:
        told, tell = os.pipe()
        hear, said = os.pipe()
        # It reads from 3 and writes to 4. Copies lie above both, so that none is in the way.
        wiring = (
            "import fcntl, os, sys\n"
            "ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]\n"
            "for end, number in zip(ends, (3, 4)): os.dup2(end, number)\n"
            "os.execv(sys.argv[3], sys.argv[3:])"
        )
        browser = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", wiring, str(told), str(said), *browser],
            pass_fds=(told, said),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(told)
        os.close(said)
        self._tell, self._hear, self._heard, self._number = tell, hear, b"", 0
        self.events: list[dict[str, Any]] = []
        self._session: str | None = None
        targets = self.send("Target.getTargets")["targetInfos"]
        (page,) = (target for target in targets if target["type"] == "page")
        attached = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask for something and wait for the answer; events on the way are noted."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._tell, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def open(
        self, page: Path, *, width: int = 1280, dark: bool = False, script: bool = True
    ) -> None:
        """Load a file in a window of that width, and wait until it is there."""
        self.send("Emulation.setScriptExecutionDisabled", value=not script)
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.send("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._next()

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; also where its own scripts are off."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """A key, down and up."""
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9}
        for kind in ("rawKeyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes[key],
            )

    def screenshot(self) -> bytes:
        """The whole page as PNG."""
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    def brightness(self, selector: str) -> float:
        """Mean of all colours of the first element that matches, as it is on the screen."""
        box = self.ask(
            f"(({{x, y, width, height}}) => ({{x: x + scrollX, y: y + scrollY, width, height}}))"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        answer = self.send(
            "Page.captureScreenshot",
            format="png",
            captureBeyondViewport=True,
            clip={**box, "scale": 1},
        )
        image = Image.open(io.BytesIO(base64.b64decode(answer["data"]))).convert("RGB")
        return float(np.asarray(image).mean())

    def pdf(self) -> bytes:
        """The page printed."""
        return base64.b64decode(self.send("Page.printToPDF", printBackground=False)["data"])

    def complaints(self) -> list[str]:
        """What the console said, and exceptions of scripts."""
        found = []
        for event in self.events:
            if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown"):
                found.append(json.dumps(event["params"]))
            if event["method"] == "Runtime.consoleAPICalled":
                found.append(json.dumps(event["params"]["args"]))
        return found

    def requests(self) -> list[str]:
        """What was loaded, the page itself included; what lies inside the file is no request."""
        sent = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        urls = [event["params"]["request"]["url"] for event in sent]
        return [url for url in urls if not url.startswith("data:")]

    def close(self) -> None:
        """End the browser."""
        self._session = None
        try:
            self.send("Browser.close")
            self._process.wait(timeout=20)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._tell)
            os.close(self._hear)

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + WAIT_SECONDS
        while b"\0" not in self._heard:
            ready, _, _ = select.select([self._hear], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"the browser said nothing for {WAIT_SECONDS} s"
            part = os.read(self._hear, 1 << 20)
            assert part, "the browser ended"
            self._heard += part
        raw, self._heard = self._heard.split(b"\0", 1)
        message: dict[str, Any] = json.loads(raw)
        if "method" in message:
            self.events.append(message)
        return message
