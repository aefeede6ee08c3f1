"""Connections to scanners: bounded in time and size, whatever is at the other end."""
