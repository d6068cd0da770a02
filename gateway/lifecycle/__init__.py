"""Lifecycle: what a bucket's rules let expire, move or be given up, and who does it."""
