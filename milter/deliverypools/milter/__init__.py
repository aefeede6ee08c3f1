"""The milter: inspects each message in two passes, hands what it knows from one to the other, tags it with a pool."""
