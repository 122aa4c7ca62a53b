"""Two sidecars to look at: the demo, and one with ten thousand accounts of which nobody is ever asked."""

import contextlib
import json
import re
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

DEADLINE = 120.0
STOP_DEADLINE = 20.0
ACCOUNTS = 10_000
# Names that must stay text. The last ones would lead astray in a path.
HOSTILE = [
    "<script>document.title='broken'</script>",
    "\"><img src=x onerror=\"document.title='broken'\">",
    "'; --<b>&amp;</b>",
    "{{ 7 * 7 }}{% raw %}",
    "a/b/../c",
    "name.json",
    "50%25?q=x#y",
    "\u202egnorw",
    "w" * 256,
]


class Broken(Exception):
    """Something is not as it should be."""


class Program:
    """The program under test, from its start until it answers."""

    def __init__(self, binary, arguments, folder, answers):
        self.log = folder / "log"
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen([binary, *arguments], stdout=log, stderr=log, cwd=folder)
        try:
            self.base = until(f"{binary} listens", lambda: self._address(answers))
            until("the store has been read", lambda: get_json(self.base + "/accounts.json")["loaded"])
        except BaseException:
            self.close()
            raise

    def close(self):
        self._process.terminate()
        try:
            self._process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _address(self, answers):
        text = self.log.read_text(errors="replace")
        if self._process.poll() is not None:
            raise Broken(f"the program ended:\n{text[-2_000:]}")
        found = re.search(answers, text)
        return found and found.group(1)


def demo(binary, folder):
    """Twelve accounts on a stage; things go wrong from the fifteenth second on."""
    arguments = ["demo", "--listen", "127.0.0.1:0", "--dir", str(folder / "stage")]
    return Program(binary, arguments, folder, r"status page +(http://[^/]+)/")


def thousands(binary, folder):
    """Ten thousand accounts of three providers and four apps, most of them well, none of them due."""
    make_store(folder / "publisher.db")
    (folder / "secret").write_text("invented")
    (folder / "secret").chmod(0o600)
    (folder / "config.yaml").write_text(CONFIG)
    return Program(binary, ["run", "--config", "config.yaml"], folder, r"status_page=(http://[^/ ]+)/")


def make_store(path):
    now = datetime.now(UTC)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(SCHEMA)
        rows = (row(number, now) for number in range(ACCOUNTS))
        database.executemany(f"INSERT INTO accounts VALUES ({', '.join('?' * 9)})", rows)
        database.commit()


def row(number, now):
    """Each kind of trouble needs nobody to be asked: it stands in the row."""
    provider, app = [("google", None), ("tiktok", "tiktok-a"), ("tiktok", "tiktok-b"), ("x", None)][number % 4]
    # Issued within five of thirty days: a renewal is due after a third at the earliest.
    issued = now - timedelta(minutes=number * 7 % 7_200)
    ends = issued + timedelta(days=30)
    refresh_ends = issued + timedelta(days=365)
    scopes = "one two"
    if number % 250 == 7:
        refresh_ends = now - timedelta(days=1)
    elif number % 200 == 11:
        scopes = "one"
    name = HOSTILE[number // 1_000] if number % 1_000 == 5 and number // 1_000 < len(HOSTILE) else f"account-{number:05}"
    return (provider, name, app, f"access-{number}", f"refresh-{number}", *map(int_of, (ends, refresh_ends, issued)), scopes)


def int_of(at):
    return int(at.timestamp())


def until(what, condition, deadline=DEADLINE):
    """Waits for a condition and returns its value. What cannot be reached yet is not there yet."""
    ends = time.monotonic() + deadline
    while True:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            value = condition()
            if value:
                return value
        if time.monotonic() > ends:
            raise Broken(f"never: {what}")
        time.sleep(0.1)


def get(url):
    with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
        return answer.read().decode()


def get_json(url):
    return json.loads(get(url))


SCHEMA = """
CREATE TABLE accounts (provider TEXT, account TEXT, app TEXT, access_token TEXT, refresh_token TEXT, expires_at INTEGER,
                       refresh_expires_at INTEGER, issued_at INTEGER, scopes TEXT, PRIMARY KEY (provider, account))
"""

# Nothing is due, and whoever would be asked all the same lives on a port where nobody listens.
NOBODY = "endpoints: {token: 'http://127.0.0.1:9/token', probe: 'http://127.0.0.1:9/probe'}"
CONFIG = f"""
store: {{kind: sqlite, path: publisher.db, table: accounts, columns: {{provider: provider, account: account, app: app,
  access_token: access_token, refresh_token: refresh_token, issued_at: {{name: issued_at, unit: unix_seconds}},
  expires_at: {{name: expires_at, unit: unix_seconds}}, refresh_expires_at: {{name: refresh_expires_at, unit: unix_seconds}},
  scopes: scopes}}}}
apps:
- {{name: google, provider: google, client_id: id, client_secret_file: secret, scopes: [one, two], {NOBODY}}}
- {{name: tiktok-a, provider: tiktok, client_id: id, client_secret_file: secret, scopes: [one, two], {NOBODY}}}
- {{name: tiktok-b, provider: tiktok, client_id: id, client_secret_file: secret, scopes: [one, two], default: false, {NOBODY}}}
- {{name: x, provider: x, client_id: id, client_secret_file: secret, scopes: [one, two], {NOBODY}}}
server: {{listen: '127.0.0.1:0'}}
state: {{directory: state}}
"""
