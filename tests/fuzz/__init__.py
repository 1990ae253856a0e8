"""Malformed inputs of every kind, and what commands make of them."""
