"""IPNS: names that are keys, the records that keys sign, and who keeps both."""
