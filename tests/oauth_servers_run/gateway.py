"""What stands before an authorization server: it hands every request on, writes down what became of it, and loses an
answer when it is told to, as a gateway does that gives up after the server has done its work."""

import base64
import http.client
import json
import threading
import urllib.parse
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWER_DEADLINE_SECONDS = 60
HANDED_ON = ("Authorization", "Content-Type", "Accept", "User-Agent")
HANDED_BACK = ("Content-Type", "WWW-Authenticate", "Cache-Control", "Retry-After", "Date")


@dataclass
class Refresh:
    """One request at the token endpoint and what the server made of it."""

    account: str | None  # None for a token that is nobody's
    client: str
    is_retired: bool  # the server had given a successor for this token
    status: int
    error: str | None
    is_lost: bool  # the answer was kept from us


class Gateway:
    def __init__(self, token_url, probe_url):
        self.token_url, self.probe_url = token_url, probe_url
        # Held while the server works on a token request, and by whoever changes something at the server: what a request
        # that is half done makes of a consent that ends is the server's affair.
        self.lock = threading.RLock()
        self.refreshes = []
        self.refused_probes = set()  # accounts
        self.losing = set()  # accounts
        self.owners = {}  # by token of either kind
        self.retired = set()
        http_server = Listener(("127.0.0.1", 0), Handler)
        http_server.gateway = self
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        origin = f"http://127.0.0.1:{http_server.server_port}"
        self.public_token_url, self.public_probe_url = origin + "/token", origin + "/probe"

    def know(self, account, access, refresh):
        self.owners[access] = self.owners[refresh] = account

    def exchange(self, headers, body):
        """A token request: status, headers and body of the answer."""
        form = dict(urllib.parse.parse_qsl(body.decode()))
        with self.lock:
            presented = form.get("refresh_token", "")
            account = self.owners.get(presented)
            status, head, answer = send(self.token_url, "POST", headers, body)
            said = json.loads(answer)
            refresh = Refresh(
                account, client_of(form, headers), presented in self.retired, status, said.get("error"), is_lost=False
            )
            self.refreshes.append(refresh)
            if status != 200:
                return status, head, answer
            self.know(account, said["access_token"], said["refresh_token"])
            if said["refresh_token"] != presented:
                self.retired.add(presented)
            if account in self.losing:
                self.losing.remove(account)
                refresh.is_lost = True
                return 502, {"Content-Type": "text/html"}, b"<html>Bad Gateway</html>"
            return status, head, answer

    def probe(self, headers):
        account = self.owners.get(headers.get("Authorization", "").removeprefix("Bearer "))
        status, head, answer = send(self.probe_url, "GET", headers, None)
        if status == 401 and account:
            self.refused_probes.add(account)
        return status, head, answer

    def rotations(self):
        """By account how often the server gave a new token that reached us."""
        return Counter(refresh.account for refresh in list(self.refreshes) if refresh.status == 200 and not refresh.is_lost)

    def of(self, account):
        return [refresh for refresh in list(self.refreshes) if refresh.account == account]


class Listener(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body leave together.
    wbufsize = -1

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(*self.server.gateway.exchange(self.handed_on(), body))

    def do_GET(self):
        self.answer(*self.server.gateway.probe(self.handed_on()))

    def handed_on(self):
        return {name: self.headers[name] for name in HANDED_ON if name in self.headers}

    def answer(self, status, head, body):
        self.send_response_only(status)
        for name, value in head.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_):
        pass


def send(url, method, headers, body):
    where = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(where.netloc, timeout=ANSWER_DEADLINE_SECONDS)
    try:
        connection.request(method, where.path, body, headers)
        answer = connection.getresponse()
        head = {name: answer.headers[name] for name in HANDED_BACK if name in answer.headers}
        return answer.status, head, answer.read()
    finally:
        connection.close()


def client_of(form, headers):
    """Who asked: by the header, or a public client by the form."""
    kind, _, pair = headers.get("Authorization", "").partition(" ")
    if kind != "Basic":
        return form.get("client_id", "")
    return urllib.parse.unquote_plus(base64.b64decode(pair).decode().partition(":")[0])
