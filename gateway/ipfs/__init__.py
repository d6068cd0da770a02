"""The IPFS front end."""
