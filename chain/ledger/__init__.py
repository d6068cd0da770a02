"""The ledger's state machine: pure transactions over an authenticated state."""
