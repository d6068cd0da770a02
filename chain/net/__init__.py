"""How nodes talk: typed messages over ZeroMQ or memory, and the hardened HTTP protocol."""
