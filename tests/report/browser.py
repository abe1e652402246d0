"""A browser without a screen, spoken to through a pipe by the protocol of Chrome's own tools."""

import fcntl
import json
import os
from base64 import b64decode
from pathlib import Path
from typing import Any

from tests.conftest import BROWSER

KEYS = {"Tab": 9, "ArrowDown": 40, "ArrowUp": 38, " ": 32}


class Browser:
    """One window; `open` shows a page in it.

    Args:
        folder: For its profile and pages.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (theirs_in, theirs_out)]  # not 3 or 4 themselves
        command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "about:blank"]
        self.process = os.posix_spawn(
            BROWSER,
            [*command, f"--user-data-dir={folder / 'profile'}"],
            os.environ,
            file_actions=[
                *((os.POSIX_SPAWN_DUP2, end, number) for end, number in zip(ends, (3, 4), strict=True)),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
        )
        for end in (theirs_in, theirs_out, *ends):
            os.close(end)
        self.commands, self.answers = os.fdopen(ours_out, "wb", 0), os.fdopen(ours_in, "rb")
        self.number, self.session = 0, None
        [target, *_] = [one for one in self.send("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        self.session = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        self.send("Page.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give a command, and wait for its result."""
        self.number += 1
        said = {"id": self.number, "method": method, "params": parameters}
        said |= {"sessionId": self.session} if self.session else {}
        self.commands.write(json.dumps(said).encode() + b"\0")
        return self._answer(lambda one: one.get("id") == self.number)["result"]

    def _answer(self, is_it: Any) -> dict[str, Any]:
        while True:
            text = bytearray()
            while (sign := self.answers.read(1)) != b"\0":
                assert sign, "the browser ended"
                text += sign
            answer = json.loads(text)
            if is_it(answer):
                assert "error" not in answer, answer["error"]
                return answer

    def open(self, page: str, width: int, *, scheme: str = "light") -> None:
        """Show a page in a window of a width, in a light or dark scheme of colours."""
        file = self.folder / "page.html"
        file.write_text(page)
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **screen)
        self.media("", scheme)
        self.send("Page.navigate", url=file.as_uri())
        self._answer(lambda one: one.get("method") == "Page.loadEventFired")

    def media(self, kind: str, scheme: str) -> None:
        """What the page is shown on: "print" is paper, "" what it really is."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", media=kind, features=features)

    def run(self, script: str) -> Any:
        """The value of a script, or of its promise."""
        found = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        named = {"key": key, "code": {" ": "Space"}.get(key, key), "windowsVirtualKeyCode": KEYS[key]}
        self.send("Input.dispatchKeyEvent", type="keyDown", **named, **({"text": " "} if key == " " else {}))
        self.send("Input.dispatchKeyEvent", type="keyUp", **named)

    def printed(self) -> bytes:
        """The page as PDF."""
        return b64decode(self.send("Page.printToPDF")["data"])

    def close(self) -> None:
        """Leave, as a browser does whose pipe ends."""
        self.commands.close()
        self.answers.close()
        os.waitpid(self.process, 0)
