"""Drives one headless Chromium over the DevTools protocol, for the tests that look at pages as people do.

    with chromium.Browser() as browser:
        page = browser.page(width=390, height=844, phone=True, dark=True, javascript=False)
        page.open("http://127.0.0.1:8640/")
        page.click("button")
        page.follow("a")
        print(page.title(), page.status, page.text("main"))

It speaks through a pipe, so that no port is taken and the browser ends when its test dies. Every page has a context of
its own: no cookie of one is seen by another. Clicks and keys go in as a mouse and a keyboard send them, so that what
lies outside the page or under something else cannot be clicked. Nothing waits for a fixed time: every wait has a
condition and a deadline. Hosts other than this machine cannot be reached, and `page.requests` tells what was asked for.

Deliberately absent: more than one window per page, downloads, frames of other sites, uploads.
"""

import base64
import collections
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

DEADLINE = 30.0
# The first start of a browser reads a hundred megabytes from a disk that others use as well.
START_DEADLINE = 90.0
STOP_DEADLINE = 5.0
LOOK_EVERY = 0.02
# A full-page picture is a few megabytes; this is what ends a runaway, not a limit anybody meets.
ANSWER_BYTES_MAX = 256 * 1024 * 1024
KEPT_MAX = 1_000
PICTURE_HEIGHT_MAX = 16_000

FLAGS = [
    "--headless",
    "--remote-debugging-pipe",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-default-apps",
    # The folder for shared memory of a container is too small for a browser.
    "--disable-dev-shm-usage",
    "--disable-extensions",
    # A page that is gone back to is asked for again, as after a restart of the browser.
    "--disable-features=BackForwardCache",
    "--disable-gpu",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE [::1], EXCLUDE localhost",
    "--mute-audio",
    "--no-default-browser-check",
    "--no-first-run",
    "--password-store=basic",
]

# What `Input.dispatchKeyEvent` wants to know of a key that is no character.
KEYS = {
    "Enter": ("Enter", 13, "\r"),
    "Tab": ("Tab", 9, ""),
    "Escape": ("Escape", 27, ""),
    "Space": ("Space", 32, " "),
    "Backspace": ("Backspace", 8, ""),
    "Home": ("Home", 36, ""),
    "End": ("End", 35, ""),
    "PageUp": ("PageUp", 33, ""),
    "PageDown": ("PageDown", 34, ""),
    "ArrowLeft": ("ArrowLeft", 37, ""),
    "ArrowUp": ("ArrowUp", 38, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
    "ArrowDown": ("ArrowDown", 40, ""),
}
SHIFT = 8


class Failed(Exception):
    """The browser could not do what it was asked."""


class Browser:
    """One Chromium with a profile in a new folder; both are gone after `close`."""

    def __init__(self, binary=None, ignore_certificates=False):
        """`ignore_certificates` is for a server whose certificate the test made itself."""
        program = binary or shutil.which("chromium") or shutil.which("chromium-browser")
        if program is None:
            raise Failed("chromium is missing: tests/tools.sh installs it")
        self.folder = tempfile.mkdtemp(prefix="oauth-keepalive-chromium-")
        self._number = 0
        self._unread = bytearray()
        self._sessions = {}
        flags = [*FLAGS, f"--user-data-dir={self.folder}/profile"]
        if os.geteuid() == 0:
            # Chromium refuses to start as root otherwise.
            flags.append("--no-sandbox")
        if ignore_certificates:
            flags.append("--ignore-certificate-errors")
        for_browser, self._to = os.pipe()
        self._from, of_browser = os.pipe()
        environment = {**os.environ, "HOME": self.folder, "XDG_CONFIG_HOME": self.folder, "XDG_CACHE_HOME": self.folder}
        with open(f"{self.folder}/log", "wb") as log:
            self._process = subprocess.Popen(
                # The pipe is agreed to be the files 3 and 4; a shell puts them there. Debian's sh knows no file above 9.
                ["bash", "-c", f'exec 3<&{for_browser} 4>&{of_browser}; exec "$@" about:blank', "bash", program, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=(for_browser, of_browser),
                start_new_session=True,
            )
        os.close(for_browser)
        os.close(of_browser)
        try:
            self.version = self.call("Browser.getVersion", deadline=START_DEADLINE)["product"]
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def page(self, **looks):
        """A page in a context of its own; see `Page.look` and `Page.javascript` for what it can be given."""
        return Page(self, **looks)

    def call(self, method, parameters=None, session=None, deadline=DEADLINE):
        """One command of the protocol and its answer. Events that arrive meanwhile go to their pages."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters or {}}
        if session is not None:
            message["sessionId"] = session
        self._write(json.dumps(message).encode() + b"\0")
        ends = time.monotonic() + deadline
        while True:
            answer = self._read(ends, method)
            if answer.get("id") != number:
                self._happened(answer)
            elif "error" in answer:
                raise Failed(f"{method}: {answer['error'].get('message')}")
            else:
                return answer["result"]

    def listen(self, ends, what):
        """Reads one event and gives it to its page."""
        self._happened(self._read(ends, what))

    def close(self):
        """Ends every process of the browser and removes its folder. Never raises."""
        if self._process.poll() is None:
            with contextlib.suppress(Failed, OSError):
                self.call("Browser.close", deadline=STOP_DEADLINE)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_DEADLINE)
        # Its helpers are in its group and some outlive it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for end in (self._to, self._from):
            with contextlib.suppress(OSError):
                os.close(end)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _happened(self, event):
        page = self._sessions.get(event.get("sessionId"))
        if page is not None and "method" in event:
            page._happened(event["method"], event.get("params", {}))

    def _write(self, message):
        try:
            while message:
                message = message[os.write(self._to, message) :]
        except OSError as error:
            raise Failed(f"the browser has gone: {error}\n{self._log()}") from error

    def _read(self, ends, what):
        while (end := self._unread.find(b"\0")) < 0:
            left = ends - time.monotonic()
            if left <= 0 or not select.select([self._from], [], [], left)[0]:
                raise Failed(f"{what}: no answer in time\n{self._log()}")
            chunk = os.read(self._from, 1 << 16)
            if not chunk:
                raise Failed(f"{what}: the browser has gone\n{self._log()}")
            self._unread += chunk
            if len(self._unread) > ANSWER_BYTES_MAX:
                raise Failed(f"{what}: an answer of more than {ANSWER_BYTES_MAX} bytes")
        message = json.loads(self._unread[:end])
        del self._unread[: end + 1]
        return message

    def _log(self):
        return Path(self.folder, "log").read_text(errors="replace")[-2_000:]


class Page:
    """One page. `status` and `headers` are those of the document that it shows."""

    def __init__(self, browser, width=1280, height=800, phone=False, dark=False, javascript=True, headers=None):
        self.browser = browser
        self.status = None
        self.headers = {}
        # Every address that was asked for, and every complaint of the browser: errors of scripts, a refused source.
        self.requests = collections.deque(maxlen=KEPT_MAX)
        self.complaints = collections.deque(maxlen=KEPT_MAX)
        # Which document was loaded last, by the browser's own name of it.
        self._loaded = None
        self._context = browser.call("Target.createBrowserContext")["browserContextId"]
        target = browser.call("Target.createTarget", {"url": "about:blank", "browserContextId": self._context})
        self._target = target["targetId"]
        self._session = browser.call("Target.attachToTarget", {"targetId": self._target, "flatten": True})["sessionId"]
        browser._sessions[self._session] = self
        self._frame = self.call("Page.getFrameTree")["frameTree"]["frame"]["id"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", {"enabled": True})
        self.look(width, height, phone, dark)
        self.javascript(javascript)
        if headers:
            self.call("Network.setExtraHTTPHeaders", {"headers": headers})

    def look(self, width=1280, height=800, phone=False, dark=False, **features):
        """The size of the window, the scheme of colours and other media features (`prefers_reduced_motion="reduce"`)."""
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", size)
        self.call("Emulation.setTouchEmulationEnabled", {"enabled": phone})
        features = {"prefers_color_scheme": "dark" if dark else "light", **features}
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", {"features": named})

    def javascript(self, on):
        """Whether the page's own scripts run. What a test evaluates runs in any case, but promises wait for scripts."""
        self._javascript = on
        self.call("Emulation.setScriptExecutionDisabled", {"value": not on})

    def open(self, url, deadline=DEADLINE):
        """Goes to an address and waits until everything has been loaded."""
        with self.navigation(deadline):
            answer = self.call("Page.navigate", {"url": url}, deadline)
            if answer.get("errorText"):
                raise Failed(f"{url}: {answer['errorText']}")
        return self

    def show(self, html, deadline=DEADLINE):
        """Shows a text as a page without an address, as a mail program does."""
        encoded = base64.b64encode(html.encode()).decode()
        return self.open(f"data:text/html;charset=utf-8;base64,{encoded}", deadline)

    @contextlib.contextmanager
    def navigation(self, deadline=DEADLINE):
        """Around what leads to another document; ends when that one has been loaded, behind every redirect."""
        before, ends = self._loaded, time.monotonic() + deadline
        yield
        while self._loaded == before:
            self.browser.listen(ends, "waiting for the next document")

    def reload(self, deadline=DEADLINE):
        """Asks for the document again and waits for it."""
        with self.navigation(deadline):
            self.call("Page.reload", deadline=deadline)

    def back(self, deadline=DEADLINE):
        """The browser's button "back"."""
        history = self.call("Page.getNavigationHistory")
        entry = history["entries"][history["currentIndex"] - 1]
        with self.navigation(deadline):
            self.call("Page.navigateToHistoryEntry", {"entryId": entry["id"]}, deadline)

    def follow(self, selector, deadline=DEADLINE):
        """Clicks and waits for the document that this leads to."""
        with self.navigation(deadline):
            self.click(selector, deadline)

    def click(self, selector, deadline=DEADLINE):
        """Clicks in the middle of an element, and refuses where something else would be hit."""
        self.wait_for(f"!!document.querySelector({json.dumps(selector)})", deadline)
        hit = self.evaluate(HIT % json.dumps(selector))
        if hit["other"] is not None:
            raise Failed(f"{selector} cannot be clicked: {hit['other']} is there")
        spot = {"x": hit["x"], "y": hit["y"], "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", {"type": kind, **spot}, deadline)

    def type(self, selector, text):
        """Puts the cursor into a field and types."""
        self.click(selector)
        self.call("Input.insertText", {"text": text})

    def press(self, key, shift=False):
        """One key: a name of `KEYS` or a character."""
        code, number, text = KEYS.get(key, (key, ord(key.upper()[0]), key))
        event = {
            "key": text if key == "Space" else key,
            "code": code,
            "windowsVirtualKeyCode": number,
            "modifiers": SHIFT if shift else 0,
        }
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self.call("Input.dispatchKeyEvent", {**event, **down})
        self.call("Input.dispatchKeyEvent", {**event, "type": "keyUp"})

    def evaluate(self, expression, deadline=DEADLINE):
        """The value of an expression in the page; a promise is waited for."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self.call("Runtime.evaluate", asked, deadline)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise Failed(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def run(self, path, deadline=DEADLINE):
        """Runs a script file in the page."""
        self.evaluate(Path(path).read_text() + "\n;undefined", deadline)

    def violations(self, axe, deadline=DEADLINE):
        """What axe finds wrong (`tests/servers/axe/install.sh` says where it is), each with its first place. A page
        whose scripts are off is looked at as it is."""
        had = self._javascript
        self.javascript(True)
        try:
            self.run(axe, deadline)
            return self.evaluate(VIOLATIONS, deadline)
        finally:
            self.javascript(had)

    def wait_for(self, expression, deadline=DEADLINE):
        """Waits until an expression is true in the page, and returns its value."""
        ends = time.monotonic() + deadline
        while True:
            try:
                value = self.evaluate(expression, max(0.1, ends - time.monotonic()))
            except Failed:
                # The document is just being replaced by another.
                value = None
            if value:
                return value
            if time.monotonic() > ends:
                raise Failed(f"never true: {expression}; the page says: {self.text()[:500]}")
            time.sleep(LOOK_EVERY)

    def text(self, selector="body"):
        """What can be read in an element."""
        return self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''").strip()

    def texts(self, selector):
        """What can be read in each element that a selector finds."""
        return self.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.innerText.trim())")

    def attribute(self, selector, name):
        """An attribute of an element, `None` where either is missing."""
        return self.evaluate(f"document.querySelector({json.dumps(selector)})?.getAttribute({json.dumps(name)})")

    def title(self):
        """The title of the document."""
        return self.evaluate("document.title")

    def url(self):
        """The address as the person sees it."""
        return self.evaluate("location.href")

    def focused(self):
        """The element that the keyboard is at, as `tag#id.class` and its text."""
        return self.evaluate(FOCUSED)

    def overflow(self):
        """By how many pixels the page is wider than its window."""
        return self.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def box(self, selector):
        """`x`, `y`, `width` and `height` of an element in pixels of the page, `None` where it is missing."""
        return self.evaluate(f"document.querySelector({json.dumps(selector)})?.getBoundingClientRect().toJSON()")

    def timings(self):
        """Milliseconds from asking for the document to its first byte, to its tree, and to its last picture."""
        return self.evaluate(TIMINGS)

    def screenshot(self, path, full=False):
        """A PNG of the window, or of the whole page."""
        asked = {"format": "png"}
        if full:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            height = min(size["height"], PICTURE_HEIGHT_MAX)
            asked["captureBeyondViewport"] = True
            asked["clip"] = {"x": 0, "y": 0, "width": size["width"], "height": height, "scale": 1}
        picture = base64.b64decode(self.call("Page.captureScreenshot", asked)["data"])
        Path(path).write_bytes(picture)

    def call(self, method, parameters=None, deadline=DEADLINE):
        """One command of the protocol, to this page."""
        return self.browser.call(method, parameters, self._session, deadline)

    def close(self):
        """Ends the page and forgets its cookies."""
        self.browser._sessions.pop(self._session, None)
        self.browser.call("Target.disposeBrowserContext", {"browserContextId": self._context})

    def _happened(self, method, parameters):
        match method:
            case "Page.lifecycleEvent" if parameters["name"] == "load" and parameters["frameId"] == self._frame:
                self._loaded = parameters["loaderId"]
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Network.responseReceived" if parameters["type"] == "Document":
                if parameters.get("frameId") == self._frame:
                    self.status = parameters["response"]["status"]
                    answered = parameters["response"]["headers"]
                    self.headers = {name.lower(): value for name, value in answered.items()}
            case "Runtime.exceptionThrown":
                self.complaints.append(parameters["exceptionDetails"].get("text", "a script failed"))
            case "Log.entryAdded":
                self.complaints.append(parameters["entry"]["text"])


# Scrolls to an element and tells its middle, and what else lies there.
HIT = """(() => {
    const wanted = document.querySelector(%s);
    wanted.scrollIntoView({ block: "center", inline: "center", behavior: "instant" });
    const box = wanted.getBoundingClientRect();
    const x = box.x + box.width / 2, y = box.y + box.height / 2;
    const there = document.elementFromPoint(x, y);
    const same = there && (wanted.contains(there) || there.contains(wanted) && wanted.tagName === "LABEL");
    return { x, y, other: same ? null : there ? there.outerHTML.slice(0, 120) : "nothing" };
})()"""

FOCUSED = """(() => {
    const e = document.activeElement;
    if (!e || e === document.body) return null;
    const name = e.tagName.toLowerCase() + (e.id ? "#" + e.id : "") + [...e.classList].map(c => "." + c).join("");
    return [name, (e.innerText || e.value || e.getAttribute("aria-label") || "").trim()];
})()"""

VIOLATIONS = """axe.run().then(found => found.violations.map(one =>
    `${one.id}: ${one.help} (${one.nodes[0].html.slice(0, 200)}: ${one.nodes[0].failureSummary})`))"""

TIMINGS = """(() => {
    const t = performance.getEntriesByType("navigation")[0];
    const since = at => at - t.startTime;
    return { first_byte_ms: since(t.responseStart), interactive_ms: since(t.domInteractive),
             complete_ms: since(t.loadEventEnd || t.loadEventStart), bytes: t.transferSize };
})()"""
