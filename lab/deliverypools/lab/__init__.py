"""A private Postfix with everything attached: network, DNS, receiving server, Dovecot, milter and policy service.

For `delivery-pools demo` and the end-to-end tests. It never touches the machine's own Postfix,
network or DNS. `Lab` is the way in.
"""

from deliverypools.lab.dns_server import DnsFailure, DnsServer, Slow
from deliverypools.lab.lab import Lab, SendResult
from deliverypools.lab.namespace import LabUnavailableError
from deliverypools.lab.receiver import ReceivedMessage, Receiver, Reply
from deliverypools.lab.site import Sieve, Site

__all__ = [
    "DnsFailure",
    "DnsServer",
    "Lab",
    "LabUnavailableError",
    "ReceivedMessage",
    "Receiver",
    "Reply",
    "SendResult",
    "Sieve",
    "Site",
    "Slow",
]
