"""One file per group of `cumulus` commands: `add(parsers)` and the functions it names."""
