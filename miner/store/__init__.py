"""Where a miner keeps fragments."""
