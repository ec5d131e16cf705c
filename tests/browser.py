"""A real Chromium, driven over a pipe by the DevTools protocol: open a page, ask it, press its keys."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
    "--hide-scrollbars", "--force-color-profile=srgb",
)  # fmt: skip
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39}


def find() -> str | None:
    """The browser's path, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One browser process with a profile of its own."""

    def __init__(self, program: str, profile: Path) -> None:
        # Chromium reads commands from file descriptor 3 and writes answers to 4.
        there_read, self._write = os.pipe()
        self._read, there_write = os.pipe()
        for descriptor, number in ((there_read, 103), (there_write, 104)):
            os.dup2(descriptor, number)
            os.close(descriptor)
        move = f'exec 3<&103 4>&104 103<&- 104>&-; exec "$0" "$@" --user-data-dir={profile}'
        self._process = subprocess.Popen(
            ["bash", "-c", move, program, *FLAGS, "about:blank"],
            pass_fds=(103, 104),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(103)
        os.close(104)
        self._buffer, self._number = b"", 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.call("Browser.close")
        finally:
            os.close(self._write)
            os.close(self._read)
            self._process.wait(20)

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """The answer to one command; events that come first are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        os.write(
            self._write, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        )
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                break
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            chunk = os.read(self._read, 1 << 20)
            if not chunk:
                raise RuntimeError("the browser is gone")
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def page(self, **options: Any) -> Page:
        return Page(self, **options)


class Page:
    """A tab of its own."""

    def __init__(
        self, browser: Browser, size: tuple[int, int] = (1440, 900), dark: bool = False, scripts: bool = True
    ) -> None:
        self._browser = browser
        self._target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        width, height = size
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        if not scripts:
            self.call("Emulation.setScriptExecutionDisabled", value=True)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def open(self, file: Path, hash_: str = "") -> None:
        """Load the page, wholly."""
        self.call("Page.navigate", url=file.resolve().as_uri() + hash_)
        self.until("document.readyState === 'complete'")
        self.settle()

    def open_static(self, file: Path) -> None:
        """Load a page whose scripts are off, so that it cannot be asked for anything."""
        self.call("Page.navigate", url=file.resolve().as_uri())
        stop = time.monotonic() + 20
        while not any(one["method"] == "Page.loadEventFired" for one in self._own()):
            if time.monotonic() > stop:
                raise AssertionError(f"{file} is not loaded within 20 s")
            time.sleep(0.02)

    def static_text(self) -> str:
        """What can be read on such a page, as assistive software sees it."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return "\n".join(str(node.get("name", {}).get("value", "")) for node in nodes)

    def ask(self, expression: str) -> Any:
        """The value of an expression in the page; what it throws is raised here."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )  # fmt: skip
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def until(self, expression: str, seconds: float = 20) -> None:
        stop = time.monotonic() + seconds
        while not self.ask(f"Boolean({expression})"):
            if time.monotonic() > stop:
                raise AssertionError(f"not within {seconds} s: {expression}")
            time.sleep(0.02)

    def settle(self) -> None:
        """Two frames: what was asked for is drawn."""
        self.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def press(self, *keys: str) -> None:
        for key in keys:
            for kind in ("keyDown", "keyUp"):
                text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
                code = KEYS[key]
                self.call(
                    "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text
                )  # fmt: skip
        self.settle()

    def move(self, selector: str) -> None:
        """The mouse onto the middle of an element."""
        self._mouse(selector, ["mouseMoved"])

    def click(self, selector: str) -> None:
        self._mouse(selector, ["mouseMoved", "mousePressed", "mouseReleased"])

    def _mouse(self, selector: str, kinds: Sequence[str]) -> None:
        x, y = self.ask(
            f"(() => {{ const node = document.querySelector({json.dumps(selector)});"
            "node.scrollIntoView({block: 'center'}); const box = node.getBoundingClientRect();"
            "return [box.left + Math.min(box.width, 600) / 2, box.top + box.height / 2]; })()"
        )
        self.settle()
        for kind in kinds:
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.settle()

    def text(self, selector: str) -> str:
        return str(self.ask(f"document.querySelector({json.dumps(selector)}).innerText"))

    def texts(self, selector: str) -> list[str]:
        found = f"[...document.querySelectorAll({json.dumps(selector)})].map(node => node.innerText)"
        return list(self.ask(found))

    def set(self, selector: str, value: object) -> None:
        """Type a value into a control, and tell the page."""
        self.ask(
            f"(() => {{ const node = document.querySelector({json.dumps(selector)});"
            f"node.value = {json.dumps(value)};"
            "for (const kind of ['input', 'change']) node.dispatchEvent(new Event(kind, {bubbles: true}));"
            "})()"
        )
        self.settle()

    def shot(self, file: Path, full: bool = False) -> Path:
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=full, **self._clip(full))
        file.write_bytes(base64.b64decode(picture["data"]))
        return file

    def _clip(self, full: bool) -> dict[str, Any]:
        if not full:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def pdf(self, file: Path) -> Path:
        printed = self.call("Page.printToPDF", printBackground=True)
        file.write_bytes(base64.b64decode(printed["data"]))
        return file

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, exceptions, and refusals of the security policy."""
        found = []
        for event in self._own():
            params = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                found.append(str(params["args"]))
        return found

    def requests(self) -> list[str]:
        """Every address asked for besides the page and what lies inside it."""
        sent = [
            one["params"]["request"]["url"]
            for one in self._own()
            if one["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in sent[1:] if not url.startswith(("data:", "blob:"))]

    def _own(self) -> list[dict[str, Any]]:
        self.settle_events()
        return [event for event in self._browser.events if event.get("sessionId") == self._session]

    def settle_events(self) -> None:
        """An answer comes after the events before it."""
        self.call("Runtime.evaluate", expression="0")

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)
