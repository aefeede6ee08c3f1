"""The settings file and the message that the tests of the command line begin with."""

SETTINGS = """\
accepted_domains = ["example.org"]
state = "sqlite:///{folder}/state.db"
ticket_key_file = "{folder}/ticket.keys"
[pools.normal]
addresses = ["192.0.2.10"]
helo = "mail.example.org"
[pools.high-risk]
addresses = ["192.0.2.20"]
helo = "mail-high-risk.example.org"
[pools.relay]
addresses = ["192.0.2.30"]
helo = "mail-relay.example.org"
[milter]
socket = "unix:{folder}/milter.sock"
[policy]
socket = "unix:{folder}/policy.sock"
"""
MAIL = b"From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: hello\r\n\r\nhello\r\n"
