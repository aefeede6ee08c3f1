"""The kinds of values that settings hold: from what the operator wrote to what the program compares.

Every parser here takes whatever TOML can hold, returns the one form that the rest of the program sees, and raises
ValueError with a text that says what was found and what would be right.
"""

from __future__ import annotations

import functools
import ipaddress
import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import idna
from pydantic import BeforeValidator, PlainValidator

from deliverypools.core.account_names import UNREADABLE, account_name

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

LONGEST_DOMAIN: Final = 253
LONGEST_ADDRESS: Final = 254
LONGEST_SOCKET_PATH_BYTES: Final = 107
"""sockaddr_un on Linux: 108 bytes with the final NUL (unix(7))."""
LONGEST_POOL_NAME: Final = 30
NO_POOL_NAME: Final = "refused"
"""In the tag of mail that does not leave, see `core.rules`."""
LONGEST_DURATION_SECONDS: Final = 366 * 86400
DNS_PORT: Final = 53
LAST_PORT: Final = 65535
LAST_USER_ID: Final = (1 << 32) - 2  # (uid_t) -1 means "no user"
MOST_DIGITS: Final = 18
"""Of a whole number: what both databases can still add to."""

_LONGEST_IP_ADDRESS: Final = 100
"""With a zone of its own (RFC 4007 section 11)."""
_MOST_REMEMBERED: Final = 4096
_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_DURATION: Final = re.compile(r"([0-9]{1,9})\s*([smhd])")
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_POOL_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_NUMBER: Final = re.compile(r"[0-9]{1,5}")
_USER_ID: Final = re.compile(r"0|[1-9][0-9]{0,9}")
_PORT_OF_URL: Final = re.compile(r"https?://[^/?#]*:([0-9]+)(?:[/?#]|\Z)", re.IGNORECASE)
_DOTTED_QUAD: Final = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
_SQLITE: Final = "sqlite://"
_REDIS: Final = ("redis://", "rediss://")
_MOST_SHOWN: Final = 60


class WithExampleError(ValueError):
    """A value is refused with an example of a right one; who knows the key can put the key's own in its place."""

    def __init__(self, text: str, example: str) -> None:
        """Say `TEXT for example EXAMPLE`; the example is a value in TOML."""
        super().__init__(f"{text} for example {example}")
        self.text = text

    def with_example(self, example: str) -> WithExampleError:
        """Return the same with another example."""
        return WithExampleError(self.text, example)


def shown(value: object) -> str:
    """Return what the operator wrote, for an error message: one line, bounded, printable in any encoding."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        cut = value if len(value) <= _MOST_SHOWN else value[: _MOST_SHOWN - 3] + "..."
        return json.dumps(cut, ensure_ascii=not cut.isprintable())
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return "a very large number"
    return str(value)


def plain_text(value: object, example: str) -> str:
    """Return a text without control characters or surrounding blanks; refuse what is no text or empty."""
    if not isinstance(value, str):
        raise WithExampleError(f"got {shown(value)}; write text in quotes,", json.dumps(example))
    text = value.strip()
    if not text:
        raise WithExampleError("is empty; write", json.dumps(example))
    if not text.isprintable():
        raise ValueError(f"got {shown(value)}; write it without control characters")
    return text


def domain_name(value: object) -> str:
    """Return a domain as lower-case A-labels without a final dot (RFC 5890)."""
    text = plain_text(value, "example.org")
    name = text.removesuffix(".").lower()
    advice = 'write a domain, for example "example.org"'
    if "@" in name:
        advice = f'write only the domain, "{name.rpartition("@")[2]}"'
    if len(name) <= LONGEST_DOMAIN:
        try:
            # A-labels are checked as well: a wrong "xn--" label would never match anything.
            if not name.isascii() or "xn--" in name:
                name = idna.encode(name, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            name = ""
        labels = name.split(".")
        is_address = labels[-1].isdigit()
        if len(name) <= LONGEST_DOMAIN and not is_address and all(_LABEL.fullmatch(label) for label in labels):
            return name
    raise ValueError(f"got {shown(value)}; {advice}")


def host_name(value: object) -> str:
    """Return a fully qualified host name (RFC 5321 section 4.1.1.1: what HELO has to say)."""
    plain_text(value, "mail.example.org")
    name = domain_name(value)
    if "." not in name:
        raise ValueError(f'got {shown(value)}; write the whole host name, for example "{name}.example.org"')
    return name


def mail_address(value: object) -> str:
    """Return a mail address in the form in which addresses are compared: lower case, domain as A-labels."""
    text = plain_text(value, "alice@example.org")
    local_part, at, domain = text.rpartition("@")
    if not at or not local_part or " " in text or text[0] == "<" or len(text) > LONGEST_ADDRESS:
        raise ValueError(f'got {shown(value)}; write one address, for example "alice@example.org"')
    return f"{local_part.lower()}@{domain_name(domain)}"


def account(value: object) -> str:
    """Return an account in the form in which accounts are compared: an address, a login, `uid:33`, a client address.

    Names that no account can have are refused: a setting with one would silently be for nobody.
    """
    text = plain_text(value, "alice@example.org")
    if address := client_ip(text):
        return str(address)
    name = account_name(mail_address(text) if "@" in text else text)
    if not name or name == UNREADABLE != text.lower():
        raise ValueError(f'got {shown(value)}; write an address, a login or "uid:33", for example "alice@example.org"')
    if advice := _advice_for_nobody(name):
        raise ValueError(f"got {shown(value)}; {advice}")
    return name


def _advice_for_nobody(name: str) -> str:
    """Return what to write instead of a name that no account can have; "" for the others."""
    local_part, at, _ = name.rpartition("@")
    if at:
        return 'write one address, for example "alice@example.org"' if local_part == "*" else ""
    kind, colon, user_id = name.partition(":")
    # "unknown" is the user of sendmail(1) mail that does not say whose it is (`accounts.UNKNOWN_USER_ID`).
    if kind + colon == "uid:" and user_id != "unknown":
        is_user = _USER_ID.fullmatch(user_id) and int(user_id) <= LAST_USER_ID
        return "" if is_user else 'write uid: and the number of the user, for example "uid:33"'
    host = name.partition("/")[0]
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    if client_ip(host) or _DOTTED_QUAD.fullmatch(host):
        return 'write one address, for example "192.0.2.70" or "2001:db8::70"'
    return ""


def ip_address(value: object) -> IpAddress:
    """Return an address that a host can have: no zone, no IPv4-mapped form, neither unspecified nor multicast."""
    text = plain_text(value, "192.0.2.10")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        advice = "write one address, without a network length" if "/" in text else "write an IPv4 or IPv6 address"
        raise ValueError(f'got {shown(value)}; {advice}, for example "192.0.2.10" or "2001:db8::10"') from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            raise ValueError(f"got {shown(value)}; write an address without a zone (%{address.scope_id})")
        if address.ipv4_mapped:
            raise ValueError(f'got {shown(value)}; write it as IPv4, "{address.ipv4_mapped}"')
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"got {shown(value)}; write an address that belongs to this host")
    return address


def ip_network(value: object) -> IpNetwork:
    """Return a network; an address alone is a network of one. Host bits that are set are an error, not a guess."""
    text = plain_text(value, "192.0.2.0/24")
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f'got {shown(value)}; write an address or a network, for example "192.0.2.0/24" or "2001:db8::/32"'
        ) from None
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
        prefix = max(network.prefixlen - 96, 0)
        ipv4 = ipaddress.ip_network((network.network_address.ipv4_mapped, prefix), strict=False)
        raise ValueError(f'got {shown(value)}; write it as IPv4, "{ipv4}": clients are compared in that form')
    if network.prefixlen == 0:
        raise ValueError(f"got {shown(value)}, which is the whole Internet; write the networks of your own clients")
    if ipaddress.ip_interface(text).ip != network.network_address:
        raise ValueError(f'got {shown(value)}, an address inside a network; write "{network}" for the whole network')
    return network


def client_ip(address: str) -> IpAddress | None:
    """Return the address of a client as MTAs write it, IPv4-mapped ones as IPv4; None for what is no address."""
    return _parsed(address) if len(address) <= _LONGEST_IP_ADDRESS else None


@functools.lru_cache(maxsize=_MOST_REMEMBERED)
def _parsed(address: str) -> IpAddress | None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


def duration_seconds(value: object) -> float:
    """Return the seconds of a number and a unit: "90s", "30m", "4h", "14d"."""
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found:
        raise ValueError(f'got {shown(value)}; write a number and a unit, for example "4h" or "30m"')
    seconds = int(found[1]) * _UNIT_SECONDS[found[2]]
    if not 0 < seconds <= LONGEST_DURATION_SECONDS:
        raise ValueError(f'got {shown(value)}; write a time between "1s" and "366d"')
    return float(seconds)


def seconds_or_duration(value: object) -> float:
    """Return seconds from a number of them, or from a number and a unit."""
    if isinstance(value, str):
        return duration_seconds(value)
    return number_of_seconds(value)


def number_of_seconds(value: object) -> float:
    """Return a number of seconds; whole numbers and fractions both do. Limits are the field's own."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LONGEST_DURATION_SECONDS:
        raise ValueError(f"got {shown(value)}; write a number of seconds without quotes, for example 5")
    return float(value)


def pool_name(value: object) -> str:
    """Return the name of a pool, which is also part of the name of a Postfix transport."""
    if not isinstance(value, str) or not _POOL_NAME.fullmatch(value) or len(value) > LONGEST_POOL_NAME:
        advice = ""
        if isinstance(value, str):
            likely = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")[:LONGEST_POOL_NAME].strip("-")
            advice = f', for example "{likely}"' if likely else ""
        raise ValueError(
            f"is no name for a pool; use lower-case letters, digits and hyphens, at most {LONGEST_POOL_NAME}{advice}"
        )
    if value == NO_POOL_NAME:
        raise ValueError(f'"{NO_POOL_NAME}" is what stands for mail that does not leave; choose another name')
    return value


class Nameserver(NamedTuple):
    """Where DNS questions go."""

    address: str
    port: int


def nameserver(value: object) -> Nameserver:
    """Return address and port of a resolver: "127.0.0.1", "127.0.0.1:5353", "::1", "[::1]:53"."""
    if isinstance(value, Nameserver):
        return value
    text = plain_text(value, "127.0.0.1")
    host, port = text, str(DNS_PORT)
    if text.startswith("[") or text.count(":") == 1:
        host, _, port = text.rpartition(":") if not text.endswith("]") else (text, "", port)
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return Nameserver(str(ip_address(host)), _port(port))
    except ValueError:
        raise ValueError(
            f'got {shown(value)}; write an address, or address and port, for example "127.0.0.1:5353" or "[::1]:53"'
        ) from None


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A socket in the file system."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class InetSocket:
    """A TCP socket; `host` is a name or an address without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"inet:[{self.host}]:{self.port}" if ":" in self.host else f"inet:{self.host}:{self.port}"


def socket_address(value: object) -> UnixSocket | InetSocket:
    """Return the socket of "unix:/absolute/path" or "inet:HOST:PORT" (an IPv6 address in brackets)."""
    text = plain_text(value, "unix:/var/spool/postfix/delivery-pools/milter.sock")
    kind, _, rest = text.partition(":")
    if kind == "unix":
        if not rest.startswith("/"):
            raise ValueError(f'got {shown(value)}; write an absolute path, for example "unix:/run/{rest or "x.sock"}"')
        if (size := len(rest.encode())) > LONGEST_SOCKET_PATH_BYTES:
            raise ValueError(f"the path has {size} bytes; a socket's path has at most {LONGEST_SOCKET_PATH_BYTES}")
        return UnixSocket(rest)
    if kind == "inet":
        host, _, port = rest.rpartition(":")
        try:
            return InetSocket(_host(host), _port(port))
        except ValueError:
            pass
    raise ValueError(f'got {shown(value)}; write "unix:/path/of/the.sock" or "inet:HOST:PORT"')


def socket_text(value: object) -> str:
    """Return a socket as normalised text."""
    return str(socket_address(value))


def _host(text: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        return str(ipaddress.IPv6Address(text[1:-1]))
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        return domain_name(text)


def _is_port(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text)) and 0 < int(text) <= LAST_PORT


def _port(text: str) -> int:
    if not _is_port(text):
        raise ValueError(f"got {shown(text)}; write a port between 1 and {LAST_PORT}")
    return int(text)


def absolute_path(value: object) -> str:
    """Return the absolute path of a file or a folder."""
    example = "/etc/delivery-pools/ticket.keys"
    text = plain_text(value, example)
    if not text.startswith("/"):
        raise WithExampleError(f"got {shown(value)}; write an absolute path,", json.dumps(example))
    if text.endswith("/"):
        raise WithExampleError(f"got {shown(value)}; write a path that does not end in a slash,", json.dumps(example))
    return text


def state_url(value: object) -> str:
    """Return where the state lies: "sqlite:///" and the absolute path of a file, or a Redis server.

    A server's URL may hold its password, so no error repeats what might be one.
    """
    example = "sqlite:////var/lib/delivery-pools/state.db"
    text = value.strip() if isinstance(value, str) else plain_text(value, example)
    if text.lower().startswith("redis") or ("@" in text and not text.startswith(_SQLITE)):
        return _redis_url(text)
    text = plain_text(text, example)
    path = text.removeprefix(f"{_SQLITE}/")
    if not text.startswith(f"{_SQLITE}/") or not path.startswith("/") or path.endswith("/"):
        raise ValueError(
            f'got {shown(value)}; write sqlite:/// and an absolute path, for example "{example}",'
            ' or a server, for example "redis://127.0.0.1:6379/0"'
        )
    return text


def _redis_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_whole = bool(parts.hostname) and parts.port != 0 and not parts.fragment
        database = parts.path.removeprefix("/")
    except ValueError:
        is_whole, database = False, ""
    is_text = text.startswith(_REDIS) and text.isprintable() and " " not in text
    if not (is_whole and is_text) or not (database == "" or _NUMBER.fullmatch(database)):
        raise ValueError(
            'is no URL of a Redis server; write for example "redis://127.0.0.1:6379/0" or'
            ' "rediss://USER:PASSWORD@redis.example.org:6379/0", with % codes for : / ? # @ in the password'
        )
    return text


def state_path(url: str) -> str | None:
    """Return the path of the SQLite file in a URL that `state_url` has accepted; None for a server."""
    return url.removeprefix(f"{_SQLITE}/") if url.startswith(_SQLITE) else None


def web_url(value: object) -> str:
    """Return an http or https URL. Its text may be a secret and is never repeated in an error."""
    text = value.strip() if isinstance(value, str) else ""
    try:
        parts = urlsplit(text)
        is_whole = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        is_whole = False
    if (port := _PORT_OF_URL.match(text)) and not _is_port(port[1]):
        raise WithExampleError(f"names a port that is none; write 1 to {LAST_PORT},", '"http://127.0.0.1:8080"')
    if not is_whole or " " in text or not text.isprintable():
        raise WithExampleError("is no URL; write http:// or https://,", '"https://alerts.example.org/hook"')
    # The scheme is compared as text where secrets are masked.
    return parts.scheme + text[len(parts.scheme) :]


def masked_url(url: str) -> str:
    """Return a URL without what may be a secret: user, password, path and query. A Redis database is none."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    if url.startswith(_REDIS):
        return f"{parts.scheme}://{'***@' if user else ''}{host}{parts.path}{'?***' if parts.query else ''}"
    return f"{parts.scheme}://{host}/***"


def any_text(value: object) -> str:
    """Return a text of the operator's own choice."""
    return plain_text(value, "sales")


def whole_number(value: Any) -> Any:
    """Refuse what pydantic would quietly turn into a number: true, 3.0, "3"."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise WithExampleError(f"got {shown(value)}; write a whole number without quotes,", "4")
    if abs(value) >= 10**MOST_DIGITS:
        raise ValueError(f"got {shown(value)}; write a number of at most {MOST_DIGITS} digits")
    return value


Domain: TypeAlias = Annotated[str, PlainValidator(domain_name)]
HostName: TypeAlias = Annotated[str, PlainValidator(host_name)]
MailAddress: TypeAlias = Annotated[str, PlainValidator(mail_address)]
AccountName: TypeAlias = Annotated[str, PlainValidator(account)]
Address: TypeAlias = Annotated[IpAddress, PlainValidator(ip_address)]
Network: TypeAlias = Annotated[IpNetwork, PlainValidator(ip_network)]
Duration: TypeAlias = Annotated[float, PlainValidator(duration_seconds)]
DurationOrSeconds: TypeAlias = Annotated[float, PlainValidator(seconds_or_duration)]
Seconds: TypeAlias = Annotated[float, BeforeValidator(number_of_seconds)]
PoolName: TypeAlias = Annotated[str, PlainValidator(pool_name)]
Resolver: TypeAlias = Annotated[Nameserver, PlainValidator(nameserver)]
SocketText: TypeAlias = Annotated[str, PlainValidator(socket_text)]
AbsolutePath: TypeAlias = Annotated[str, PlainValidator(absolute_path)]
StateUrl: TypeAlias = Annotated[str, PlainValidator(state_url)]
WebUrl: TypeAlias = Annotated[str, PlainValidator(web_url)]
Text: TypeAlias = Annotated[str, PlainValidator(any_text)]
Count: TypeAlias = Annotated[int, BeforeValidator(whole_number)]
