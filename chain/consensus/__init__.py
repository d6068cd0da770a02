"""Drivers that feed the ledger with blocks."""
