"""A mail server that misbehaves on request (aiosmtpd).

Prints the port it listens on, then appends one JSON line per event to the log: every command, every login,
every received message. Ends when its standard input is closed.
"""

import argparse
import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

USER, PASSWORD = b"keeper", b"invented-password"


class Server(SMTP):
    """aiosmtpd's server with the faults of `--fault` built in."""

    def __init__(self, handler, fault, log, **options):
        super().__init__(handler, **options)
        self.fault, self.log = fault, log

    async def push(self, status):
        if self.fault == "hang-greeting" and str(status).startswith("220 localhost"):
            await asyncio.sleep(3600)
        await super().push(status)

    async def smtp_EHLO(self, hostname):
        self.log({"command": "EHLO"})
        await super().smtp_EHLO(hostname)

    async def smtp_AUTH(self, arg):
        # `AUTH PLAIN c2VjcmV0` names the password; only the mechanism is kept.
        self.log({"command": "AUTH", "mechanism": (arg or "").split(" ")[0]})
        await super().smtp_AUTH(arg)

    async def smtp_MAIL(self, arg):
        self.log({"command": "MAIL"})
        await super().smtp_MAIL(arg)

    async def smtp_QUIT(self, arg):
        self.log({"command": "QUIT"})
        if self.fault == "hang-quit":
            await asyncio.sleep(3600)
        await super().smtp_QUIT(arg)


class Handler:
    """Answers RCPT and the end of DATA as the fault demands, and keeps what it accepted."""

    def __init__(self, fault, log):
        self.fault, self.log, self.recipients_seen, self.messages_seen = fault, log, 0, 0

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        self.recipients_seen += 1
        self.log({"command": "RCPT"})
        if self.fault == "greylist" and self.recipients_seen == 1:
            return f"451 4.7.1 <{address}> greylisted, come back later"
        if self.fault == "grey-hours" and self.recipients_seen <= 12:
            return f"451 4.7.1 <{address}> greylisted, come back later"
        # A server that has just been started: it closes, it puts off, and twice its word is lost.
        if self.fault == "rough" and self.recipients_seen <= 2:
            return "421 4.3.2 starting up"
        if self.fault == "rough" and self.recipients_seen <= 60 and self.recipients_seen % 3 == 0:
            return "451 4.3.2 too busy"
        if self.fault == "unknown-recipient":
            return f"550 5.1.1 <{address}> is unknown here"
        if self.fault == "closing":
            return "421 4.3.2 shutting down"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if self.fault == "hang-data":
            await asyncio.sleep(3600)
        self.messages_seen += 1
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.log(
            {
                "message": {
                    "from": envelope.mail_from,
                    "to": envelope.rcpt_tos,
                    "tls": session.ssl is not None or server.transport.get_extra_info("sslcontext") is not None,
                    "login": bool(session.authenticated),
                    "headers": [[name, str(value)] for name, value in message.items()],
                    "parts": [
                        [part.get_content_type(), part.get_content()]
                        for part in message.walk()
                        if not part.is_multipart()
                    ],
                }
            }
        )
        lost = self.fault == "lost-250" and self.messages_seen == 1
        if lost or (self.fault == "rough" and self.messages_seen in (2, 7)):
            server.transport.abort()
            return "250 never seen"
        if self.fault == "hang-answer":
            await asyncio.sleep(3600)
        if self.fault == "refuse-content":
            return "554 5.6.0 this content is not welcome"
        return "250 2.0.0 taken"


def authenticate(server, session, envelope, mechanism, data):
    # `handled=False` on failure: otherwise aiosmtpd leaves the client without an answer.
    good = data.login == USER and data.password == PASSWORD
    return AuthResult(success=good, handled=good)


async def main(options):
    record = open(options.log, "a", encoding="utf-8", buffering=1)

    def log(event):
        print(json.dumps(event), file=record)

    context = None
    if options.certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.certificate, options.key)
    starttls = context if options.tls == "starttls" else None
    handler = Handler(options.fault, log)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Server(
            handler,
            options.fault,
            log,
            hostname="localhost",
            loop=loop,
            tls_context=starttls,
            require_starttls=starttls is not None,
            authenticator=authenticate,
            auth_required=not options.no_login,
            # Implicit TLS and loopback have no STARTTLS to wait for.
            auth_require_tls=options.tls == "starttls",
            auth_exclude_mechanism=["PLAIN"] if options.fault == "login-only" else [],
            enable_SMTPUTF8=options.fault != "ascii-only",
        ),
        host="127.0.0.1",
        port=0,
        ssl=context if options.tls == "implicit" else None,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--tls", choices=["starttls", "implicit", "none"], default="starttls")
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--no-login", action="store_true")
    parser.add_argument("--fault", default="none")
    asyncio.run(main(parser.parse_args()))
