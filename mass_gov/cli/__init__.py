"""The command line: a door, and nothing behind it. What a command does lives in `mass_gov.flows` and `mass_gov.wiring`.

Rules: `main` declares the groups; a command imports what it needs when it runs, so that `--help` and the auditor's
commands start fast and never load torch. stdout holds the answer (with `--json` exactly one JSON object, or JSON
lines), stderr holds progress, notices and errors. Whatever a person or a model wrote passes through `output.visible`,
and is never read as markup. Exit statuses are mapped in `exits`, and nowhere else.
"""
