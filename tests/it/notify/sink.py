"""A mail server that prints what happens to it as JSON, a line each, and does as it is told.

Its argument is a JSON object: tls (none, starttls, implicit), cert, key, login ([user, password]), smtputf8, refuses (a domain
whose recipients it does not take), slowly (after how many seconds), said (in which words), and misbehaves: one of greeting,
recipient, echo, echo all (user and password, also in base64), silent, hang, endless, nonsense, ahead (somebody on the way puts the answers to all that is asked within TLS
behind the one to STARTTLS), far ahead (behind the one before it). It ends when its standard input does.
"""

import asyncio
import base64
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

told = json.loads(sys.argv[1])
how = told.get("misbehaves")
connections = set()
idle = asyncio.Event()
idle.set()
# To EHLO, MAIL, RCPT, DATA, the content and QUIT.
FORGED = "\r\n".join(["250 of course"] * 3 + ["354 go on", "250 taken", "221 bye"])


def say(**what):
    print(json.dumps(what), flush=True)


class Counted:
    """Notes which connections are open, so that nothing is left unread at the end."""

    def connection_made(self, transport):
        # Once more after STARTTLS.
        if self not in connections:
            say(event="connected")
        connections.add(self)
        idle.clear()
        super().connection_made(transport)

    def connection_lost(self, error):
        super().connection_lost(error)
        connections.discard(self)
        if not connections:
            idle.set()


class Server(Counted, SMTP):
    async def push(self, status):
        if how == "greeting" and str(status).startswith("220") and self.session.host_name is None:
            await super().push("554 5.7.1 No service for you")
            self.transport.close()
            return
        ready = str(status).startswith("220 Ready to start TLS")
        if how == "ahead" and ready:
            status = f"{status}\r\n{FORGED}"
        if how == "far ahead":
            if ready:
                # What the server says itself does not get through.
                return
            if status == "250 HELP" and self.session.ssl is None:
                status = f"{status}\r\n220 Ready\r\n{FORGED}"
        await super().push(status)


class Raw(Counted, asyncio.Protocol):
    """One that speaks no SMTP."""

    def connection_made(self, transport):
        super().connection_made(transport)
        if how == "nonsense":
            transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            transport.close()
        if how == "endless":
            self.task = asyncio.ensure_future(self.flood(transport))

    async def flood(self, transport):
        while not transport.is_closing():
            transport.write(b"2" * 65536)
            await asyncio.sleep(0)


class Handler:
    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        say(event="hello", name=hostname)
        return responses

    async def handle_MAIL(self, server, session, envelope, address, options):
        say(event="sender", address=address, options=options)
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        say(event="recipient", address=address)
        if how == "recipient" or address.rpartition("@")[2] == told.get("refuses"):
            await asyncio.sleep(told.get("slowly", 0))
            return told.get("said", "550 5.1.1 No such user here")
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        say(
            event="mail",
            sender=envelope.mail_from,
            recipients=envelope.rcpt_tos,
            tls=session.ssl is not None or server.transport.get_extra_info("sslcontext") is not None,
            login=session.auth_data.login.decode() if session.auth_data else None,
            content=envelope.content.decode("utf-8", "replace"),
        )
        if how == "hang":
            await asyncio.sleep(3600)
        return "250 Taken"


def authenticate(server, session, envelope, mechanism, login):
    say(event="login", mechanism=mechanism)
    if [login.login.decode(), login.password.decode()] == told.get("login"):
        return AuthResult(success=True, auth_data=login)
    said = login.password.decode() if how == "echo" else "Wrong credentials"
    if how == "echo all":
        both = b"\0" + login.login + b"\0" + login.password
        forms = [login.login, base64.b64encode(both), base64.b64encode(login.login), login.password]
        said = " ".join(form.decode() for form in forms)
    return AuthResult(success=False, handled=False, message=f"535 5.7.8 {said}")


def protocol():
    if how in ("silent", "endless", "nonsense"):
        return Raw()
    login = told.get("login")
    starttls = told.get("tls") == "starttls"
    return Server(
        Handler(),
        enable_SMTPUTF8=told.get("smtputf8", False),
        tls_context=context() if starttls else None,
        require_starttls=starttls,
        authenticator=authenticate if login else None,
        auth_required=bool(login),
        auth_require_tls=starttls,
        loop=asyncio.get_running_loop(),
    )


def context():
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(told["cert"], told["key"])
    return made


async def main():
    loop = asyncio.get_running_loop()
    implicit = context() if told.get("tls") == "implicit" else None
    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=implicit)
    say(event="listening", port=server.sockets[0].getsockname()[1])
    await loop.run_in_executor(None, sys.stdin.read)
    await asyncio.wait_for(idle.wait(), 30)


asyncio.run(main())
