"""Prices in integers."""
