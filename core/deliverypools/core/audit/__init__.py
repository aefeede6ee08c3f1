"""Decisions against deliveries: lines of Postfix's mail log go in, what left by a wrong address comes out.

`lines` reads one line, `transports` says where a transport leads, `fold` puts it together,
`findings` has the words.
"""
