#!/usr/bin/env python3
"""Publishes one post on one account as the sidecar permits; standard library only.

    SIDECAR=http://127.0.0.1:8641 SECRET_FILE=secrets/publisher publish.py tiktok brand-a post-4711

Copy it, and put your own call where it says so. One function asks, one reports, one waits; that is all there is to it.
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


def call(method, path, body=None):
    """The answer as JSON. Read the secret each time, so that a changed one works at once."""
    with open(SECRET_FILE, encoding="utf-8") as file:
        headers = {"Authorization": f"Bearer {file.read().strip()}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(SIDECAR + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=70) as answer:
        return json.load(answer)


def path_of(provider, account, leaf):
    quoted = (urllib.parse.quote(part, safe="") for part in (provider, account))
    return "/v1/accounts/{}/{}/{}".format(*quoted, leaf)


def permit(provider, account, post, scheduled_at):
    """Waits until the post may be published. Without a sidecar a publisher goes on as it did before."""
    while True:
        try:
            wish = {"post": post, "scheduled_at": scheduled_at}
            permit = call("POST", path_of(provider, account, "permits"), wish)
        except urllib.error.HTTPError as error:
            problem = json.load(error)
            if error.code != 503:
                raise SystemExit(f"{problem['code']}: {problem['detail']}")
            time.sleep(int(error.headers.get("Retry-After", "5")))
            continue
        except OSError as error:
            print(f"no sidecar: {error}", file=sys.stderr)
            return {"granted": True, "kind": "open"}
        if permit["granted"]:
            return permit
        print(f"{provider}/{account} is {permit['gate']} ({permit['cause']})", file=sys.stderr)
        time.sleep(permit["retry_after"])


def publish(provider, account, post):
    """Your own call to the provider goes here: HTTP status and answer."""
    return 200, {"published": [provider, account, post]}


def main(provider, account, post):
    granted = permit(provider, account, post, int(time.time()))
    status, answer = publish(provider, account, post)
    entry = {"provider": provider, "account": account, "status": status, "said": {"body": answer}}
    call("POST", "/v1/responses", {"responses": [entry]})
    if granted["kind"] == "canary":
        result = {"worked": status < 300, "status": status, "body": answer}
        call("POST", path_of(provider, account, "canary"), result)
    print(json.dumps({"kind": granted["kind"], "status": status}))


if __name__ == "__main__":
    main(*sys.argv[1:])
