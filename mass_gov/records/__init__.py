"""What is said: frozen values with no I/O. Evidence proves them, the ledger keeps them, nothing here knows either."""
