"""What may happen on the ledger, one module per subject."""
