"""Kubo's RPC, the subset of docs/ipfs-api.md: `POST /api/v0/COMMAND` on the API port."""
