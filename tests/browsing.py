"""A headless Chromium, spoken to by its DevTools protocol: it opens pages and answers expressions."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from foreign import chromium
from waiting import PATIENCE_S

_OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio",
    "--autoplay-policy=no-user-gesture-required", "--remote-debugging-port=0", "--disable-background-networking",
)  # fmt: skip


class Page:
    """One tab."""

    def __init__(self, line: ClientConnection, session: str) -> None:
        self._line = line
        self._session = session
        self._last = 0
        self.complaints: list[str] = []
        """Errors that the page has logged or thrown."""

    def open(self, url: str) -> None:
        self.ask("Page.enable")
        self.ask("Runtime.enable")
        self.ask("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def value(self, expression: str) -> Any:
        """What an expression comes to, after its promise; it must not throw."""
        answer = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str, timeout_s: float = PATIENCE_S) -> Any:
        """Until an expression is true; what it then is."""
        deadline = time.monotonic() + timeout_s
        while not (value := self.value(expression)):
            assert time.monotonic() < deadline, f"{expression} did not come true; the page says {self.complaints}"
            time.sleep(0.05)
        return value

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters, "sessionId": self._session}
        self._line.send(json.dumps(message))
        while True:
            answer = json.loads(self._line.recv(PATIENCE_S))
            if answer.get("id") == self._last:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(event["params"]["exceptionDetails"])[:500])
        elif event.get("method") == "Runtime.consoleAPICalled" and event["params"]["type"] == "error":
            self.complaints.append(str(event["params"]["args"])[:500])


@contextmanager
def browsing(profile: Path) -> Iterator[Page]:
    """A browser with an empty profile in this folder, and its one page."""
    with (profile.parent / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [chromium(), *_OPTIONS, f"--user-data-dir={profile}", "about:blank"], stdout=log, stderr=log
        )
    try:
        with connect(_address(profile, process), max_size=None, open_timeout=PATIENCE_S) as line:
            yield _page(line)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _address(profile: Path, process: "subprocess.Popen[bytes]") -> str:
    told = profile / "DevToolsActivePort"
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        if told.exists() and len(lines := told.read_text().splitlines()) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    raise AssertionError(f"Chromium did not start: {(profile.parent / 'chromium.log').read_text()[-2_000:]}")


def _page(line: ClientConnection) -> Page:
    line.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
    targets = _answer(line, 1)["targetInfos"]
    target = next(one["targetId"] for one in targets if one["type"] == "page")
    line.send(json.dumps({"id": 2, "method": "Target.attachToTarget", "params": {"targetId": target, "flatten": True}}))
    return Page(line, str(_answer(line, 2)["sessionId"]))


def _answer(line: ClientConnection, number: int) -> dict[str, Any]:
    while True:
        message = json.loads(line.recv(PATIENCE_S))
        if message.get("id") == number:
            result: dict[str, Any] = message["result"]
            return result
