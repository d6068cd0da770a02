"""Hashes of several streams at once, side by side in the lanes of vector registers."""
