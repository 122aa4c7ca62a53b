"""The PyPI package `django-oauth-toolkit` as an authorization server for tests/oauth_servers.

It is told what to do by JSON lines on standard input, answers each with one on standard output, and ends with the input.
The one argument says what becomes of refresh tokens:

strict   each refresh retires the refresh token, and a retired one that comes again ends its whole family
lenient  each refresh retires it; a retired one is refused, and its family lives on
grace    as strict, but for two minutes the token that was retired last buys the same successor again
stable   it stays
"""

import json
import logging
import sys
import tempfile
import threading
import uuid
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

MODES = {
    "strict": {"REFRESH_TOKEN_REUSE_PROTECTION": True},
    "lenient": {},
    "grace": {"REFRESH_TOKEN_REUSE_PROTECTION": True, "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": 120},
    "stable": {"ROTATE_REFRESH_TOKEN": False},
}
SCOPES = ["openid", "profile", "publish"]


def main():
    with tempfile.TemporaryDirectory(prefix="oauth-keepalive-django-") as folder:
        server = None
        for line in sys.stdin:
            command = json.loads(line)
            if command["do"] == "start":
                configure(MODES[sys.argv[1]], command["life"], Path(folder))
                # Only now: its modules ask for the settings.
                server = Server(command["life"])
            answer = getattr(server, command.pop("do"))(**command)
            print(json.dumps(answer or {}), flush=True)


def configure(mode, life, folder):
    import django
    from django.conf import settings
    from django.core.management import call_command

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    applications = ["auth", "contenttypes"]
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": folder / "db.sqlite3",
                # Nobody needs it after a power cut.
                "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 30, "init_command": "PRAGMA synchronous=OFF"},
            }
        },
        INSTALLED_APPS=[*(f"django.contrib.{name}" for name in applications), "oauth2_provider"],
        LOGGING_CONFIG=None,
        # Tables from the models as they are, instead of dozens of migrations.
        MIGRATION_MODULES={name: None for name in [*applications, "oauth2_provider"]},
        OAUTH2_PROVIDER={
            **mode,
            "ACCESS_TOKEN_EXPIRE_SECONDS": life,
            "OIDC_ENABLED": True,
            "OIDC_RSA_PRIVATE_KEY": key.decode(),
            "SCOPES": {scope: scope for scope in SCOPES},
        },
        ROOT_URLCONF=__name__,
        SECRET_KEY=uuid.uuid4().hex,
        USE_TZ=True,
    )
    # A refused request is a warning to it.
    logging.getLogger("django.request").setLevel(logging.ERROR)
    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)


class Server:
    """Each method is a command."""

    def __init__(self, life):
        from django.contrib.auth.models import User
        from django.core.servers import basehttp
        from django.core.wsgi import get_wsgi_application
        from oauth2_provider import models

        class Silent(basehttp.WSGIRequestHandler):
            def log_message(self, *_):
                pass

        self.life, self.users, self.models = life, User.objects, models
        server = basehttp.ThreadedWSGIServer(("127.0.0.1", 0), Silent)
        server.daemon_threads = True
        server.set_app(get_wsgi_application())
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.origin = f"http://127.0.0.1:{server.server_port}"

    def start(self, life, clients):
        for client in clients:
            confidential = client["secret"] is not None
            self.models.Application.objects.create(
                client_id=client["client"],
                client_secret=client["secret"] or "",
                # Hashed on purpose slowly, it would be looked at for each request.
                hash_client_secret=False,
                client_type="confidential" if confidential else "public",
                authorization_grant_type="authorization-code",
                redirect_uris="https://publisher.invented.example/callback",
                algorithm="RS256",
            )
        return {"token": f"{self.origin}/o/token/", "probe": f"{self.origin}/o/userinfo/"}

    def mint(self, accounts):
        from django.utils import timezone

        applications = {one.client_id: one for one in self.models.Application.objects.all()}
        tokens = {}
        for account, client in accounts:
            user, _ = self.users.get_or_create(username=account)
            owner = {"user": user, "application": applications[client]}
            access = self.models.AccessToken.objects.create(
                **owner,
                token=uuid.uuid4().hex,
                expires=timezone.now() + timedelta(seconds=self.life),
                scope=" ".join(SCOPES),
            )
            refresh = self.models.RefreshToken.objects.create(
                **owner, token=uuid.uuid4().hex, access_token=access, token_family=uuid.uuid4()
            )
            tokens[account] = {"access": access.token, "refresh": refresh.token, "scopes": SCOPES}
        return tokens

    def revoke(self, accounts):
        """What a person does who takes an application off the list of those that may act for them."""
        for refresh in self.refresh_tokens().filter(user__username__in=accounts):
            refresh.revoke()

    def take_scope(self, accounts, scope):
        for refresh in self.refresh_tokens().filter(user__username__in=accounts):
            access = refresh.access_token
            access.scope = " ".join(word for word in access.scope.split() if word != scope)
            access.save()

    def end_access(self, accounts):
        from django.utils import timezone

        self.models.AccessToken.objects.filter(user__username__in=accounts).update(expires=timezone.now())

    def change_secret(self, client, secret):
        self.models.Application.objects.filter(client_id=client).update(client_secret=secret)

    def live(self):
        """The refresh token that each account would be given a new one for; the newest where it has several."""
        return dict(self.refresh_tokens().order_by("id").values_list("user__username", "token"))

    def refresh_tokens(self):
        return self.models.RefreshToken.objects.filter(revoked=None, access_token__isnull=False)


def __getattr__(name):
    # Django asks this module for its routes once the settings are there.
    if name != "urlpatterns":
        raise AttributeError(name)
    from django.urls import include, path

    return [path("o/", include("oauth2_provider.urls", namespace="oauth2_provider"))]


if __name__ == "__main__":
    main()
