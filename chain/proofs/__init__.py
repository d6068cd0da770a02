"""Proofs that anyone can check."""
