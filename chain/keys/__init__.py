"""Keys: signing identities, the keystore on disk, and capsules for delegated decryption."""
