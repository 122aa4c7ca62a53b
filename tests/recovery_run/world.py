"""What the story is played with: the provider, the mail server, the publisher with its store, and the program itself."""

import contextlib
import json
import re
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

SCOPES = ["user.info.basic", "video.publish"]
OPERATOR = "operator@invented.example"
PUBLISHER_SECRET = "invented-publisher-secret-9a31"
# Whole seconds are the finest that permits know, so that less could not be seen to be kept.
RESUME_EVERY_SECONDS = 2
# What belongs together must not come further apart, on a slow machine either.
DIGEST_AFTER_SECONDS = 3
# Old enough for a 401 to be about the token and not about the one before it.
TOKEN_AGE_SECONDS = 600
DEADLINE_SECONDS = 60
LOOK_EVERY_SECONDS = 0.02

SCHEMA = """
    PRAGMA journal_mode = wal;
    CREATE TABLE accounts (
        provider TEXT NOT NULL, account TEXT NOT NULL, app TEXT, owner TEXT, access_token TEXT, refresh_token TEXT,
        expires_at INTEGER, refresh_expires_at INTEGER, issued_at INTEGER, scopes TEXT, subject TEXT,
        enabled INTEGER NOT NULL DEFAULT 1, status TEXT, campaign TEXT NOT NULL DEFAULT 'winter',
        PRIMARY KEY (provider, account))
"""


class Broken(Exception):
    """A promise was not kept."""


def until(what, condition, told=lambda: ""):
    """Waits until a condition holds, and returns what it returned."""
    ends = time.monotonic() + DEADLINE_SECONDS
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > ends:
            raise Broken(f"in {DEADLINE_SECONDS} s it never came about that {what}\n{told()}")
        time.sleep(LOOK_EVERY_SECONDS)


class Provider:
    """The demo's provider in a process of its own (`provider.rs`)."""

    def __init__(self, program, folder):
        self.process = subprocess.Popen(
            [program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "provider.log").open("w"),
            text=True,
        )
        self.about = json.loads(self.process.stdout.readline())

    def order(self, what, **more):
        self.process.stdin.write(json.dumps({"do": what, **more}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Broken("the provider has gone")
        return json.loads(line)

    def log(self, account=None, what=None):
        """What was asked of it, oldest first."""
        entries = self.order("log")
        return [e for e in entries if account in (None, e["account"]) and what in (None, e["what"])]

    def accepts(self, stored):
        """True when the newest token of its account is this one."""
        account, access, refresh = stored["account"], stored["access_token"], stored["refresh_token"]
        current = self.order("current", account=account)
        return (current["access_token"], current["refresh_token"]) == (access, refresh)

    def post(self, access):
        """The publisher posts a video; the status of the answer."""
        request = urllib.request.Request(self.about["post"], b"{}", {"Authorization": f"Bearer {access}"})
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def close(self):
        end(self.process)


class MailServer:
    """aiosmtpd (tests/servers/smtp.py) and what it took."""

    def __init__(self, folder):
        self.log = folder / "mails.jsonl"
        self.log.touch()
        self.process = subprocess.Popen(
            [sys.executable, ROOT / "tests/servers/smtp.py", "--tls", "none", "--no-login", "--log", self.log],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self.process.stdout.readline())

    def mails(self, to=None):
        """The mails in the order in which they came."""
        lines = self.log.read_text().splitlines(keepends=True)
        events = [json.loads(line) for line in lines if line.endswith("\n")]
        mails = [Mail(event["message"]) for event in events if "message" in event]
        return [mail for mail in mails if to in (None, mail.to)]

    def close(self):
        end(self.process)


class Mail:
    """A mail as the server wrote it down."""

    def __init__(self, message):
        (self.to,) = message["to"]
        self.headers = {name.lower(): value for name, value in message["headers"]}
        self.parts = dict(message["parts"])
        self.subject = self.headers["subject"]
        self.id = self.headers["message-id"].strip()
        self.references = self.headers.get("references", "").split()
        self.html, self.text = self.parts["text/html"], self.parts["text/plain"]

    def whole(self):
        return "\n".join([*(f"{name}: {value}" for name, value in self.headers.items()), *self.parts.values()])


class Store:
    """The publisher's table."""

    def __init__(self, folder):
        self.path = folder / "publisher.db"
        with self.open() as store:
            store.executescript(SCHEMA)

    @contextlib.contextmanager
    def open(self):
        store = sqlite3.connect(self.path, timeout=DEADLINE_SECONDS)
        store.row_factory = sqlite3.Row
        try:
            with store:
                yield store
        finally:
            store.close()

    def add(self, account, owner, token):
        row = {"provider": "tiktok", "account": account, "owner": owner, **token, "scopes": ",".join(token["scopes"])}
        with self.open() as store:
            store.execute(
                f"INSERT INTO accounts ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values())
            )

    def row(self, account):
        """Every column of it."""
        with self.open() as store:
            return dict(store.execute("SELECT * FROM accounts WHERE account = ?", [account]).fetchone())

    def execute(self, sql, *values):
        with self.open() as store:
            store.execute(sql, values)


class Sidecar:
    """The program, and what a publisher asks of it."""

    def __init__(self, binary, folder, provider, mail_server, connect_port):
        self.binary, self.folder = binary, folder
        self.config, self.state = folder / "config.yaml", folder / "state"
        self.base = f"http://127.0.0.1:{connect_port}"
        self.callback = f"{self.base}/connect/callback"
        self.process, self.starts, self.events = None, 0, None
        provider.order("register", uri=self.callback)
        for name, secret in ("client-secret", provider.about["client_secret"]), ("publisher-secret", PUBLISHER_SECRET):
            (folder / name).touch(mode=0o600)
            (folder / name).write_text(secret)
        # JSON is YAML.
        self.config.write_text(json.dumps(self._configuration(provider.about, mail_server.port, connect_port)))

    def _configuration(self, provider, smtp_port, connect_port):
        return {
            "store": {"kind": "sqlite", "path": "publisher.db", "poll_every": "500ms"},
            "apps": [
                {
                    "name": "main",
                    "provider": "tiktok",
                    "kind": "desktop",
                    "client_id": provider["client_id"],
                    "client_secret_file": "client-secret",
                    "scopes": SCOPES,
                    "endpoints": provider["endpoints"],
                }
            ],
            "refresh": {"backoff_first": "1s", "backoff_max": "4s"},
            "gate": {"resume_every": f"{RESUME_EVERY_SECONDS}s"},
            "mail": {
                "enabled": True,
                "from": "OAuth keepalive <keepalive@invented.example>",
                "operator": [OPERATOR],
                "time_zone": "Europe/Berlin",
                "external_url": "https://keepalive.invented.example",
                "digest_after": f"{DIGEST_AFTER_SECONDS}s",
                "smtp": {"host": "127.0.0.1", "port": smtp_port, "tls": "none"},
            },
            "server": {"listen": "127.0.0.1:0"},
            "connect": {"enabled": True, "listen": f"127.0.0.1:{connect_port}", "external_url": self.base},
            "publisher": {
                "enabled": True,
                "listen": "127.0.0.1:0",
                "clients": [
                    {
                        "name": "publisher",
                        "secret_file": "publisher-secret",
                        "rights": ["read", "report", "publish", "hold", "refresh"],
                    }
                ],
            },
            "state": {"directory": "state"},
        }

    def start(self):
        self.starts += 1
        log = self.folder / f"program-{self.starts}.log"
        command = [self.binary, "run", "--log-level", "debug", "--config", self.config]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log.open("w"), stderr=subprocess.STDOUT)

        def listens():
            if self.process.poll() is not None:
                raise Broken(f"the program ended at once:\n{log.read_text()}")
            words = ("metrics=http://", 'API is served" url=http://', 'owners are answered" url=http://')
            found = [re.search(words + r"([0-9.:]+)[^0-9.:].*\n", log.read_text()) for words in words]
            if all(found):
                self.telemetry, self.api, _ = (f"http://{one.group(1)}" for one in found)
            return all(found)

        until("the program says where it listens", listens, log.read_text)
        until("it has read the store", lambda: self._status(f"{self.telemetry}/-/ready") == 200, self.log)
        self.events = Events(self)

    def kill_9(self):
        self.process.kill()
        self.process.wait()
        self.events.close()

    def a_day_passes_for(self, account):
        """While it does not run: its incident is a day older."""
        with contextlib.closing(sqlite3.connect(self.state / "state.db")) as state, state:
            older = "UPDATE incident SET fired_at = fired_at - 86400 WHERE subject LIKE ?"
            if state.execute(older, [f"%{account}%"]).rowcount != 1:
                raise Broken(f"{account} has no incident that could be older")
            told = "UPDATE outbox SET notice = json_set(notice, '$.since', notice ->> '$.since' - 86400) WHERE subject LIKE ?"
            state.execute(told, [f"%{account}%"])

    def close(self):
        if self.process:
            end(self.process)

    def log(self):
        """Everything it said since the first start."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("program-*.log")))

    def metrics(self):
        with urllib.request.urlopen(f"{self.telemetry}/metrics", timeout=DEADLINE_SECONDS) as answer:
            return answer.read().decode()

    def metric(self, name, **labels):
        """The value of a series that has these labels among its own; 0 where there is none."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        for line in self.metrics().splitlines():
            series, _, value = line.rpartition(" ")
            if series.split("{")[0] == f"oauth_keepalive_{name}" and all(label in series for label in wanted):
                return float(value)
        return 0.0

    def ask(self, method, path, body=None):
        request = urllib.request.Request(
            f"{self.api}/v1/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {PUBLISHER_SECRET}", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as answer:
            return json.load(answer)

    def gate(self, account):
        """What the publisher is told; nothing of an account that is not there."""
        try:
            return self.ask("GET", f"{path_of(account)}/gate")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return {"gate": None, "known": False}
            raise

    def permit(self, account, post, scheduled_at):
        return self.ask("POST", f"{path_of(account)}/permits", {"post": post, "scheduled_at": scheduled_at})

    def report(self, accounts, status):
        """The publisher says what it was answered with."""
        responses = [{"provider": "tiktok", "account": account, "status": status} for account in accounts]
        self.ask("POST", "responses", {"responses": responses})

    def link(self, account):
        """A link as an operator makes it by hand."""
        command = [self.binary, "connect", f"tiktok/{account}", "--output", "json", "--config", self.config]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
        if done.returncode != 0:
            raise Broken(f"connect ended with {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)["url"]

    def _status(self, url):
        try:
            with urllib.request.urlopen(url, timeout=DEADLINE_SECONDS) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code


class Events:
    """The gates that moved, as the publisher hears of them, each with the instant at which it heard."""

    def __init__(self, sidecar):
        self.heard = []
        headers = {"Authorization": f"Bearer {PUBLISHER_SECRET}"}
        request = urllib.request.Request(f"{sidecar.api}/v1/events", headers=headers)
        self.stream = urllib.request.urlopen(request, timeout=10 * DEADLINE_SECONDS)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        # It ends with the program.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            for line in self.stream:
                if line.startswith(b"data: {") and b'"gate"' in line:
                    self.heard.append((time.time(), json.loads(line[len(b"data: ") :])))

    def moves(self, account, gate=None):
        return [(at, one) for at, one in self.heard if one["account"] == account and gate in (None, one["gate"])]

    def close(self):
        with contextlib.suppress(OSError):
            self.stream.close()


def path_of(account):
    return f"accounts/tiktok/{urllib.parse.quote(account, safe='')}"


def end(process):
    """Ends a process of ours, and waits for it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdin:
        with contextlib.suppress(OSError):
            process.stdin.close()
