"""What every door says: one JSON document per thing, the same on the command line and over HTTP.

Rules: a document is a function of what flows and ledger return; it knows neither doors, keys nor SQL, and nothing that
a person wrote is altered in it. docs/reference/cli.md lists the fields.
"""
