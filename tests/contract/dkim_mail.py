"""Signed messages and their keys, and a DNS that answers from a table."""

import base64
import functools
from concurrent.futures import Future

import dkim
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from deliverypools.adapters.authentication.dkim_check import SignatureCheck

BODY = b"Hello  there \r\n\r\nAll the best\t\r\n\r\n\r\n"
MESSAGE = b"From: A <a@example.org>\r\nTo: b@example.net\r\nSubject: a  folded\r\n\tsubject\r\n\r\n" + BODY
KEY_NAME = "sel._domainkey.example.org"


class KeyServer:
    """Answers at once, and remembers the questions; an exception in the table is raised."""

    def __init__(self, records):
        self.records = records
        self.asked = []

    def start_txt(self, name):
        self.asked.append(name)
        records = self.records.get(name, ())
        future = Future()
        if isinstance(records, Exception):
            future.set_exception(records)
        else:
            future.set_result((records,) if isinstance(records, bytes) else records)
        return future


class HangingServer(KeyServer):
    """Never answers."""

    def __init__(self, records):
        super().__init__(records)
        self.futures = []

    def start_txt(self, name):
        self.asked.append(name)
        self.futures.append(Future())
        return self.futures[-1]


@functools.cache
def rsa_key(bits=2048, exponent=65537):
    """The private key as dkimpy takes it, and its record."""
    key = rsa.generate_private_key(public_exponent=exponent, key_size=bits)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return private, b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)


@functools.cache
def ed25519_key():
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.b64encode(private), b"v=DKIM1; k=ed25519; p=" + base64.b64encode(public)


def signed(message=MESSAGE, *, private=None, domain=b"example.org", algorithm=b"rsa-sha256", change=None, **options):
    """The message below a signature by dkimpy; `change` is made to the field after signing."""
    private = private or (rsa_key() if algorithm.startswith(b"rsa") else ed25519_key())[0]
    signer = dkim.DKIM(message, signature_algorithm=algorithm)
    field = signer.sign(b"sel", domain, private, **options)
    if change:
        assert change[0] in field
        field = field.replace(*change, 1)
    return field + message


def parts(message):
    """The header fields as the check takes them, and the body."""
    header, _, body = message.partition(b"\r\n\r\n")
    lines = header.replace(b"\r\n\t", b"\0\t").replace(b"\r\n ", b"\0 ").split(b"\r\n")
    fields = [line.partition(b":")[::2] for line in lines if line]
    return [(name, value.replace(b"\0", b"\r\n")) for name, value in fields], body


def results_of(fields, body, server):
    check = SignatureCheck(fields)
    check.start(server)
    for start in range(0, len(body), 4096):
        check.feed(body[start : start + 4096])
    return check.finish(5.0)


def verified(message, records=None):
    """The results of a message; by default the key of `signed` is in DNS."""
    if records is None:
        records = {KEY_NAME: rsa_key()[1]}
    if isinstance(records, bytes):
        records = {KEY_NAME: records}
    return results_of(*parts(message), KeyServer(records))


SIMPLE_BODY = BODY.rstrip(b"\r\n") + b"\r\n"


def signed_with(tags, message=MESSAGE, *, body=SIMPLE_BODY, algorithm="rsa-sha256", private=None):
    """The message below a signature with tags that dkimpy would not write; None leaves one out."""
    hasher = dkim.HASH_ALGORITHMS[algorithm.encode()]
    written = {
        "v": "1",
        "a": algorithm,
        "c": "relaxed/simple",
        "d": "example.org",
        "s": "sel",
        "h": "from:to",
        "bh": base64.b64encode(hasher(body).digest()).decode(),
    } | tags
    fields = [(key.encode(), value.encode()) for key, value in written.items() if value is not None]
    signer = dkim.DKIM(message, signature_algorithm=algorithm.encode())
    signer.hasher = hasher
    key = dkim.parse_pem_private_key(private or rsa_key()[0])
    names = [name.strip().lower() for name in dict(fields).get(b"h", b"from").split(b":")]
    policy = dkim.CanonicalizationPolicy.from_c_value(b"relaxed/simple")
    return (
        b"DKIM-Signature: "
        + signer.gen_header([*fields, (b"b", b"0" * 60)], names, policy, b"DKIM-Signature", key)
        + message
    )


def only(results):
    (found,) = results
    return found
