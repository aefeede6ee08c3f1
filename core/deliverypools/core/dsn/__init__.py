"""Delivery status notifications and what is taken for one: recognised, read, and matched with what we sent."""
