"""What this network holds of IPFS: blocks, packs, pins, directories, and their rows."""
