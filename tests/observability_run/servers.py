"""A Prometheus, an Alertmanager and a receiver of webhooks, each on a free port; they end with their `with` block."""

import http.server
import json
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RULES = sorted((ROOT / "alerts").glob("*.rules.yaml"))
ALERTMANAGER_EXAMPLE = ROOT / "alerts/alertmanager.example.yaml"
EXAMPLE_RECEIVER = "http://127.0.0.1:9095/"
JOB = "oauth-keepalive"

# Nothing here waits for a length of time; these say when to give up, on a machine that is busy.
START_DEADLINE_SECONDS = 60
ANSWER_DEADLINE_SECONDS = 30


def free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def fetch(url, **parameters):
    if parameters:
        url += "?" + urllib.parse.urlencode(parameters)
    with urllib.request.urlopen(url, timeout=ANSWER_DEADLINE_SECONDS) as answer:
        return json.load(answer)


class Server:
    """A program that answers at `ready_path` once it can be asked."""

    ready_path = "/-/ready"

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.address = free_address()
        self.url = f"http://{self.address}"
        self.log = self.folder / "log"

    def __enter__(self):
        self.started = time.time()
        self.process = subprocess.Popen(self.command(), stdout=self.log.open("w"), stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_DEADLINE_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                sys.exit(f"{self.command()[0]} did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.1)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def answers(self):
        try:
            with urllib.request.urlopen(self.url + self.ready_path, timeout=ANSWER_DEADLINE_SECONDS):
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


class Prometheus(Server):
    """Without a target it only parses; with one it scrapes and evaluates every second. `scrape` says how more exactly."""

    def __init__(self, binary, folder, target=None, rules=(), alertmanager=None, scrape=()):
        super().__init__(folder)
        self.binary, self.target = binary, target
        config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}}
        config["rule_files"] = [str(path) for path in rules]
        if target:
            target = urllib.parse.urlsplit(target)
            address = {"targets": [target.netloc]}
            job = {"job_name": JOB, "metrics_path": target.path or "/metrics", "static_configs": [address]}
            config["scrape_configs"] = [{**job, **dict(scrape)}]
        if alertmanager:
            config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager.address]}]}]}
        # JSON is YAML.
        (self.folder / "prometheus.yml").write_text(json.dumps(config))

    def command(self):
        return [
            self.binary,
            f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/data",
            f"--web.listen-address={self.address}",
        ]

    def ask(self, path, **parameters):
        return fetch(f"{self.url}/api/v1/{path}", **parameters)["data"]

    def query(self, expression):
        data = self.ask("query", query=expression)
        return [{"value": data["result"]}] if data["resultType"] == "scalar" else data["result"]

    def history(self, expression):
        """Each series since the start, second by second, the last sample included."""
        return self.ask("query_range", query=expression, start=self.started, end=time.time() + 1, step=1)["result"]

    def parse(self, expression):
        """The tree of a query, or a ValueError with what the parser says of it."""
        try:
            return self.ask("parse_query", query=expression)
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error).get("error", "refused")) from None


class Alertmanager(Server):
    """The example's routes and inhibition, with waits of a second and its receivers at `receiver`."""

    def __init__(self, binary, folder, receiver=EXAMPLE_RECEIVER):
        super().__init__(folder)
        self.binary = binary
        text = ALERTMANAGER_EXAMPLE.read_text().replace(EXAMPLE_RECEIVER, receiver)
        # What is critical is sent at once. All else waits a moment, so that what silences it has come too.
        text = text.replace("group_wait: 10s", "group_wait: 100ms").replace("group_wait: 30s", "group_wait: 1s")
        text = re.sub(r"group_interval: \S+", "group_interval: 1s", text)
        (self.folder / "alertmanager.yml").write_text(text)

    def command(self):
        return [
            self.binary,
            f"--config.file={self.folder}/alertmanager.yml",
            f"--storage.path={self.folder}/data",
            f"--web.listen-address={self.address}",
            # One alone: it looks for no others.
            "--cluster.listen-address=",
        ]

    def raise_alerts(self, alerts):
        """Posts alerts, each given by its labels."""
        body = json.dumps([{"labels": labels} for labels in alerts]).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/api/v2/alerts", body, headers)
        with urllib.request.urlopen(request, timeout=ANSWER_DEADLINE_SECONDS):
            pass

    def alerts(self):
        """All alerts with their labels, each with the alerts that silence it."""
        alerts = fetch(f"{self.url}/api/v2/alerts")
        by_fingerprint = {alert["fingerprint"]: alert["labels"] for alert in alerts}
        for alert in alerts:
            alert["silenced_by"] = [by_fingerprint.get(print_, {}) for print_ in alert["status"]["inhibitedBy"]]
        return alerts


class Receiver:
    """Takes webhooks and keeps what they said: the receiver's name, the status, the labels."""

    def __enter__(self):
        heard = self.heard = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                heard.extend((self.path.strip("/"), alert["status"], alert["labels"]) for alert in message["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
