"""Examining who sent a message: SPF, DKIM, DMARC and ARC, with the DNS behind them."""
