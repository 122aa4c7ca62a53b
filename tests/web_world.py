"""The program beside a store of its own, with certificates, asked by curl: for tests/web and tests/actions."""

import contextlib
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Longer than anything here takes on a busy machine.
PATIENCE_SECONDS = 60


class World:
    """A store, certificates, and the program when it was started. Others have another store and more sections."""

    store = "accounts: []\n"
    app = "{name: main, provider: tiktok, client_id: invented, client_secret_file: secret}"
    sections = ""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        (folder / "store.yaml").write_text(self.store)
        (folder / "secret").write_text("invented-client-secret\n")
        (folder / "secret").chmod(0o600)
        self.configure()
        self.certify("tls")
        (folder / "tls/clients-ca.pem").write_bytes((folder / "tls/ca.pem").read_bytes())

    def configure(self, **server):
        server = {"listen": '"127.0.0.1:0"', "enable_reload": "true", **server}
        server = ", ".join(f"{key}: {value}" for key, value in server.items())
        (self.folder / "config.yaml").write_text(
            "store: {kind: file, path: store.yaml}\nstate: {directory: state}\n"
            f"server: {{{server}}}\n"
            f"apps: [{self.app}]\n{self.sections}"
        )

    def certify(self, name):
        (self.folder / name).mkdir()
        subprocess.run([ROOT / "tests/servers/certificates.sh", self.folder / name], check=True)

    def replace(self, name, text):
        """In one motion, as editors and Kubernetes do."""
        (self.folder / (name + ".new")).write_text(text)
        (self.folder / (name + ".new")).chmod(0o600)
        (self.folder / (name + ".new")).rename(self.folder / name)

    @contextlib.contextmanager
    def running(self, web=None, *flags, **server):
        """The program with this web configuration; yields its addresses."""
        if web is not None:
            self.replace("web.yml", web)
            self.configure(web_config_file="web.yml", **server)
        command = [self.binary, "run", "--config.file", str(self.folder / "config.yaml"), *flags]
        self.log = self.folder / "log"
        process = subprocess.Popen(command, stdout=self.log.open("w"), stderr=subprocess.STDOUT, cwd=self.folder)
        try:
            self.wait("it says where it listens", lambda: self.addresses() or process.poll() is not None)
            if not self.addresses():
                sys.exit(f"it ended at once:\n{self.log.read_text()}")
            self.process = process
            self.scheme, self.port = re.match(r"(https?)://.*:(\d+)$", self.addresses()[0]).groups()
            yield self.addresses()
        finally:
            process.terminate()
            process.wait()

    def addresses(self):
        found = re.findall(r"metrics=(https?://[^/ ]+)/metrics", self.log.read_text())
        return found if "status_page=" in self.log.read_text() else []

    def wait(self, what, condition):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (result := condition()):
            if time.monotonic() > deadline:
                sys.exit(f"it never came to be that {what}:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.1)
        return result

    def curl(self, path="/-/healthy", *options, scheme=None):
        """Status and whole answer; status 0 when there was none."""
        port, folder = self.port, self.folder
        command = ["curl", "--silent", "--include", "--max-time", "30", "--http1.1"]
        command += ["--resolve", f"localhost:{port}:127.0.0.1", "--cacert", folder / "tls/ca.pem", *options]
        asked = subprocess.run([*command, f"{scheme or self.scheme}://localhost:{port}{path}"], capture_output=True, text=True)
        status = re.match(r"HTTP/1.1 (\d+)", asked.stdout)
        return (int(status[1]) if status else 0), asked.stdout

    def expect(self, status, path="/-/healthy", *options, **how):
        found, answer = self.curl(path, *options, **how)
        if found != status:
            raise AssertionError(f"{path} {options} {how}: {found}, expected {status}\n{answer}\n{self.log.read_text()[-3000:]}")
        return answer

    def until(self, status, *how, **more):
        self.wait(f"{how} is {status}", lambda: self.curl(*how, **more)[0] == status)

    def metric(self, name, *options):
        found = re.search(rf"^oauth_keepalive_{name} (\S+)$", self.curl("/metrics", *options)[1], re.MULTILINE)
        return float(found[1]) if found else None

    def check(self, *flags):
        command = [self.binary, "check", "--config", str(self.folder / "config.yaml"), *flags]
        checked = subprocess.run(command, capture_output=True, text=True, cwd=self.folder)
        return checked.returncode, checked.stdout + checked.stderr
