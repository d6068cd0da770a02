"""Blocks that other networks hold, by the trustless gateways of `[ipfs] fetch_from`."""
