"""What smtpd(8) asks the policy service, and a client that asks it."""

import socket

ANSWER = b"action=DUNNO\n\n"
OF_ALICE = {"sasl_username": "alice@example.org"}


def request(**changes):
    """One request, as smtpd(8) writes it."""
    values = {
        "request": "smtpd_access_policy",
        "protocol_state": "END-OF-MESSAGE",
        "protocol_name": "ESMTP",
        "client_address": "198.51.100.7",
        "sender": "alice@example.org",
        "recipient": "",
        "recipient_count": "3",
        "queue_id": "4POLICY001z",
        "instance": "1.2.3",
        "sasl_username": "",
    } | changes
    return "".join(f"{name}={value}\n" for name, value in values.items()).encode() + b"\n"


class Client:
    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(path)
        self._socket.settimeout(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._socket.close()

    def send(self, data):
        self._socket.sendall(data)

    def read(self, length):
        data = b""
        while len(data) < length and (chunk := self._socket.recv(length - len(data))):
            data += chunk
        return data

    def ask(self, **changes):
        self.send(request(**changes))
        return self.answer()

    def answer(self):
        data = b""
        while not data.endswith(b"\n\n") and (byte := self._socket.recv(1)):
            data += byte
        return data

    def is_closed(self):
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:
            return True
