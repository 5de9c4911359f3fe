"""A real SMTP server that delivers nothing: it prints each mail that it takes.

python mail_server.py PORT [FOLDER]    FOLDER: a Maildir that keeps them
"""

import asyncio
import email
import email.policy
import mailbox
import sys

from aiosmtpd.smtp import SMTP


class Mails:
    def __init__(self, folder=None):
        self.kept = mailbox.Maildir(folder) if folder else None

    async def handle_DATA(self, _server, _session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        if self.kept is not None:
            self.kept.add(envelope.content)
        print(f"--- to {', '.join(envelope.rcpt_tos)}")
        for name in ("From", "To", "Subject", "Message-ID"):
            print(f"{name}: {mail[name]}")
        print(f"\n{mail.get_body(('plain', 'html')).get_content()}", flush=True)
        return "250 OK"


async def main(port, folder=None):
    mails = Mails(folder)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(mails, hostname="mail"), "127.0.0.1", port)
    print(f"mail server on port {port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:3]))
