"""The program under test with its configuration, and the publisher's store."""

import json
import re
import sqlite3
import subprocess
import time
import urllib.request

from server import SCOPE

SCHEMA = """
    PRAGMA journal_mode = wal;
    CREATE TABLE accounts (
        provider TEXT NOT NULL, account TEXT NOT NULL, app TEXT, owner TEXT, access_token TEXT, refresh_token TEXT,
        expires_at INTEGER, refresh_expires_at INTEGER, issued_at INTEGER, scopes TEXT, subject TEXT,
        enabled INTEGER NOT NULL DEFAULT 1, status TEXT, PRIMARY KEY (provider, account))
"""
REPORTS_SECRET = "invented-reports-secret"
ANSWER_DEADLINE_SECONDS = 60
CAUSE = re.compile(r'^oauth_keepalive_cause\{provider="oauth2",account="([^"]*)",cause="([^"]*)"\} 1$', re.MULTILINE)
OUTCOME = re.compile(
    r'^oauth_keepalive_refresh_outcomes_total\{provider="oauth2",outcome="([^"]*)"\} (\d+)$', re.MULTILINE
)


class Sidecar:
    def __init__(self, binary, folder, servers, life):
        self.binary, self.folder, self.life = binary, folder, life
        self.config, self.log = folder / "config.yaml", folder / "log"
        self.process, self.diagnosis_text = None, ""
        # The store always takes tokens: whoever diagnoses this sees one that is just on its way into it.
        self.called_unsaved = set()
        with self.store() as store:
            store.executescript(SCHEMA)
        apps = []
        for server in servers:
            for client, secret in server.secrets.items():
                app = {
                    "name": client.replace(" ", "-"),
                    "provider": "oauth2",
                    "client_id": client,
                    "scopes": [SCOPE],
                    "endpoints": {"token": server.gateway.public_token_url, "probe": server.gateway.public_probe_url},
                }
                if secret is not None:
                    self.write_secret(client, secret)
                    app["client_secret_file"] = str(self.secret_file(client))
                apps.append(app)
        (folder / "reports-secret").write_text(REPORTS_SECRET)
        # JSON is YAML.
        self.config.write_text(
            json.dumps(
                {
                    "store": {"kind": "sqlite", "path": "publisher.db", "poll_every": "1s"},
                    "apps": apps,
                    "refresh": {"backoff_first": "1s", "backoff_max": "10s"},
                    # Until it has passed, nobody asks again after a lost answer.
                    "http": {"total_deadline": "8s"},
                    "server": {"listen": "127.0.0.1:0"},
                    "publisher": {
                        "enabled": True,
                        "listen": "127.0.0.1:0",
                        "clients": [{"name": "tests", "secret_file": "reports-secret", "rights": ["report"]}],
                    },
                    "state": {"directory": "state"},
                }
            )
        )

    def store(self):
        return sqlite3.connect(self.folder / "publisher.db", timeout=60)

    def secret_file(self, client):
        return self.folder / f"secret-{client.replace(' ', '-')}"

    def write_secret(self, client, secret):
        """In one step, as a careful operator does it."""
        new = self.folder / "secret.new"
        new.write_text(secret)
        new.chmod(0o600)
        new.rename(self.secret_file(client))

    def connect(self, server, accounts):
        """The publisher has new consents of these accounts."""
        now = int(time.time())
        with self.store() as store:
            for account, token in server.mint(accounts).items():
                store.execute(
                    "INSERT OR REPLACE INTO accounts (provider, account, app, access_token, refresh_token, expires_at,"
                    " issued_at, scopes) VALUES ('oauth2', ?, ?, ?, ?, ?, ?, ?)",
                    (
                        account,
                        server.client_of(account).replace(" ", "-"),
                        token["access"],
                        token["refresh"],
                        now + self.life,
                        now,
                        " ".join(token["scopes"]),
                    ),
                )

    def stored(self):
        with self.store() as store:
            return dict(store.execute("SELECT account, refresh_token FROM accounts"))

    def start(self):
        command = [self.binary, "run", "--log-level", "info", "--config", self.config]
        self.process = subprocess.Popen(command, stdout=self.log.open("w"), stderr=subprocess.STDOUT)

    def is_silent(self):
        """True until it has said where it listens."""
        if self.process.poll() is not None:
            raise SystemExit(f"the program ended at once:\n{self.log.read_text()}")
        found = [
            re.search(words + r"([0-9.:]+)[^0-9.:].*\n", self.log.read_text() + " ")
            for words in ("metrics=http://", 'the publisher\'s API is served" url=http://')
        ]
        if all(found):
            self.telemetry, self.reports = (f"http://{one.group(1)}" for one in found)
        return not all(found)

    def metrics(self):
        with urllib.request.urlopen(f"{self.telemetry}/metrics", timeout=ANSWER_DEADLINE_SECONDS) as answer:
            return answer.read().decode()

    def causes(self):
        return dict(CAUSE.findall(self.metrics()))

    def outcomes(self):
        return {outcome: int(count) for outcome, count in OUTCOME.findall(self.metrics())}

    def report(self, accounts, status):
        """The publisher says what it was answered with."""
        responses = [{"provider": "oauth2", "account": account, "status": status} for account in accounts]
        request = urllib.request.Request(
            f"{self.reports}/v1/responses",
            json.dumps({"responses": responses}).encode(),
            {"Authorization": f"Bearer {REPORTS_SECRET}", "Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=ANSWER_DEADLINE_SECONDS).close()

    def diagnosed(self):
        """What `diagnose` says of every account that is not well: cause and who acts."""
        command = [self.binary, "diagnose", "--all", "--output", "json", "--log-level", "error", "--config", self.config]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            raise SystemExit(f"diagnose ended with {done.returncode}: {done.stderr}")
        self.diagnosis_text = done.stdout
        found = {
            one["account"]: (one["cause"], one["next_step"]["actor"]) for one in json.loads(done.stdout)["accounts"]
        }
        self.called_unsaved |= {account for account, (cause, _) in found.items() if cause == "unsaved_token"}
        return found

    def stop(self):
        """Asks it to end, and says with what it did."""
        self.process.terminate()
        return self.process.wait()

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
