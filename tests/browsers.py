"""Drives headless Chromium by its protocol over a pipe."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One page; ``close`` ends the browser."""

    def __init__(self, folder: Path) -> None:
        (to_it, out), (into, from_it) = os.pipe(), os.pipe()
        flags = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --remote-debugging-pipe"
        command = f'exec {CHROMIUM} {flags} --user-data-dir="{folder}" about:blank 3<&{to_it} 4>&{from_it}'
        self.process = subprocess.Popen(["bash", "-c", command], pass_fds=(to_it, from_it), stderr=subprocess.DEVNULL)
        os.close(to_it)
        os.close(from_it)
        self.out, self.into = out, into
        self.session: str | None = None
        self.number, self.bytes = 0, b""
        self.events: list[dict[str, Any]] = []
        pages = [one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        self.session = self.call("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.bytes:
                if not (more := os.read(self.into, 2**20)):
                    raise EOFError("the browser has ended")
                self.bytes += more
            one, _, self.bytes = self.bytes.partition(b"\0")
            answer = json.loads(one)
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.events.append(answer)

    def script(self, text: str) -> Any:
        found = self.call("Runtime.evaluate", expression=text, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, text: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not self.script(text):
            assert time.monotonic() < end, text
            time.sleep(0.05)

    def press(self, key: str) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key)

    def close(self) -> None:
        self.call("Browser.close")
        self.process.wait(20)
        os.close(self.out)
        os.close(self.into)
