#!/usr/bin/env python3
"""Writes a store with a few accounts and a configuration into the folder that it is given, for tests/publisher_api.

One account is well, one has no token, one has ended, one lacks a scope and is held for it. Their provider is a port on
which nobody listens, so nothing is renewed.
"""

import json
import secrets
import sqlite3
import sys
import time
from pathlib import Path

SCHEMA = """
CREATE TABLE accounts (
    provider TEXT NOT NULL, account TEXT NOT NULL, app TEXT, owner TEXT, access_token TEXT, refresh_token TEXT,
    expires_at INTEGER, refresh_expires_at INTEGER, issued_at INTEGER, scopes TEXT, subject TEXT,
    enabled INTEGER NOT NULL DEFAULT 1, status TEXT, PRIMARY KEY (provider, account))
"""
DAY = 86_400


def main():
    folder = Path(sys.argv[1])
    now = int(time.time())
    store = sqlite3.connect(folder / "publisher.db")
    store.execute(SCHEMA)
    for account, token, ends_in, scopes in [
        ("well", "invented-access-1", 30 * DAY, "publish"),
        ("a/b %2F", "invented-access-2", 30 * DAY, "publish"),
        ("without", None, None, None),
        ("ended", "invented-access-3", -DAY, "publish"),
        ("lacking", "invented-access-4", 30 * DAY, "read"),
    ]:
        ends_at = None if ends_in is None else now + ends_in
        renews = token and token.replace("access", "refresh")
        store.execute(
            "INSERT INTO accounts (provider, account, access_token, refresh_token, expires_at, issued_at, scopes) "
            "VALUES ('oauth2', ?, ?, ?, ?, ?, ?)",
            (account, token, renews, ends_at, now - DAY, scopes),
        )
    store.commit()
    (folder / "secret").write_text(secrets.token_hex(16))
    # JSON is YAML.
    (folder / "config.yaml").write_text(json.dumps(configuration()))


def configuration():
    return {
        "store": {"kind": "sqlite", "path": "publisher.db"},
        "apps": [
            {
                "name": "main",
                "provider": "oauth2",
                "client_id": "invented",
                "scopes": ["publish"],
                "endpoints": {"token": "http://127.0.0.1:1/token"},
            }
        ],
        "server": {"listen": "127.0.0.1:0"},
        "publisher": {
            "enabled": True,
            "listen": "127.0.0.1:0",
            "serve_tokens": True,
            "clients": [
                {
                    "name": "tests",
                    "secret_file": "secret",
                    "rights": ["read", "report", "publish", "hold", "refresh", "token"],
                }
            ],
        },
        "gate": {"proof": "publish", "resume_every": "2s"},
        "state": {"directory": "state"},
    }


main()
