#!/usr/bin/env python3
"""Publishes one post on one account as the sidecar permits; standard library only. Put your own call into `publish`.

    SIDECAR=http://127.0.0.1:8641 SECRET_FILE=secrets/publisher publish.py tiktok brand-a post-4711
"""

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

SIDECAR = os.environ.get("SIDECAR", "http://127.0.0.1:8641")
SECRET_FILE = os.environ.get("SECRET_FILE", "secrets/publisher")


def call(path, body):
    """The answer as JSON. Read the secret each time, so that a changed one works at once."""
    with open(SECRET_FILE, encoding="utf-8") as file:
        headers = {"Authorization": f"Bearer {file.read().strip()}", "Content-Type": "application/json"}
    request = urllib.request.Request(SIDECAR + path, json.dumps(body).encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=70) as answer:
        return json.load(answer)


def permit(path, wish):
    """Waits until the post may be published, and says as what. Without a sidecar it goes on as it did before."""
    while True:
        try:
            answer = call(path + "/permits", wish)
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise SystemExit("{code}: {detail}".format(**json.load(error)))
            answer = {"granted": False, "gate": "not known", "retry_after": int(error.headers["Retry-After"] or 5)}
        except OSError as error:
            print(f"no sidecar: {error}", file=sys.stderr)
            return "open"
        if answer["granted"]:
            return answer["kind"]
        print(f"the gate is {answer['gate']}", file=sys.stderr)
        time.sleep(answer["retry_after"])


def publish(provider, account, post):
    """Your own call to the provider goes here: HTTP status and answer."""
    return 200, {"published": [provider, account, post]}


provider, account, post = sys.argv[1:]
path = "/v1/accounts/{}/{}".format(*(urllib.parse.quote(part, safe="") for part in (provider, account)))
kind = permit(path, {"post": post, "scheduled_at": int(time.time())})
status, body = publish(provider, account, post)
report = {"provider": provider, "account": account, "status": status, "said": {"body": body}}
call("/v1/responses", {"responses": [report]})
if kind == "canary":
    call(path + "/canary", {"worked": status < 300, "status": status, "body": body})
print(json.dumps({"kind": kind, "status": status}))
