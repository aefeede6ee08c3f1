"""A message on its way through the passes of the milter, and what cleanup(8) does with the milter's wishes."""

import dataclasses
import email.utils
import time

from milter_client import MilterClient, Outcome

HEADERS = (
    (b"From", b"Alice <alice@example.org>"),
    (b"To", b"bob@example.net"),
    (b"Subject", b"Minutes of the meeting"),
    (b"Date", b"Tue, 21 Nov 2023 10:00:00 +0000"),
    (b"Message-ID", b"<1@example.org>"),
)
TAG = "X-Delivery-Pool"
TICKET = "X-Delivery-Pool-Ticket"
_queue_ids = (f"4XYZQ{number:05d}z" for number in range(100_000))


def received(seconds_ago: float = 0.0, queue_id: str = "4RECVD0001z") -> tuple[bytes, bytes]:
    """The field that the first pass's smtpd puts on top."""
    date = email.utils.formatdate(time.time() - seconds_ago)
    text = (
        f"from x (x [198.51.100.7])\n\tby mx.example.org (Postfix) with ESMTP id {queue_id}\n\tfor <b@c>; {date} (UTC)"
    )
    return b"Received", text.encode()


@dataclasses.dataclass(frozen=True)
class Mail:
    headers: tuple[tuple[bytes, bytes], ...] = HEADERS
    body: bytes = b"hello\r\n"
    sender: bytes = b"<alice@example.org>"
    recipients: tuple[bytes, ...] = (b"<bob@example.net>",)

    def but(self, name: str, value: bytes) -> "Mail":
        """The message with another value in one field."""
        old = name.encode().lower()
        return self.with_headers((field, value if field.lower() == old else text) for field, text in self.headers)

    def with_headers(self, headers) -> "Mail":
        return dataclasses.replace(self, headers=tuple(headers))

    def below(self, *fields: tuple[bytes, bytes]) -> "Mail":
        """The message with more fields on top."""
        return self.with_headers((*fields, *self.headers))

    def after(self, outcome: Outcome) -> "Mail":
        """The message as the milter wants it."""
        headers = list(self.headers)
        for index, name, value in outcome.changed:
            assert value == "", "fields are only ever deleted"
            places = [
                place for place, (field, _) in enumerate(headers) if field.decode("latin-1").lower() == name.lower()
            ]
            del headers[places[index - 1]]
        for name, value in outcome.added:
            headers.insert(0, (name.encode(), value.encode()))
        sender = self.sender if outcome.new_sender is None else outcome.new_sender.encode()
        return dataclasses.replace(self, headers=tuple(headers), sender=sender)

    def values(self, name: str) -> list[bytes]:
        return [value for field, value in self.headers if field.lower() == name.lower().encode()]

    def through(
        self, client: MilterClient, *, sasl_username: str = "", queue_id: str = "", chunk_bytes: int = 65535
    ) -> Outcome:
        """Send the message on an open connection."""
        return client.send(
            self.sender,
            self.recipients,
            self.headers,
            self.body,
            queue_id=queue_id or next(_queue_ids),
            macros={"{auth_authen}": sasl_username} if sasl_username else {},
            chunk_bytes=chunk_bytes,
        )


def connected(path: str, daemon_name: str = "smtpd", address: str = "198.51.100.7") -> MilterClient:
    """Connect as a service of Postfix does."""
    client = MilterClient(path)
    client.connect(address, {"{daemon_name}": daemon_name})
    return client
