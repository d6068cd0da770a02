"""The ledger layer: identities, content ids, wire protocol, and the ledger itself."""
