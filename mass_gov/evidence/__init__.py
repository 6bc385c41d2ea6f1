"""How it is proven: bytes in, proofs out.

Every format here is somebody's standard (DESIGN section 6, byte by byte in docs/reference/formats.md) and is final:
a leaf of the log can't be migrated. Nothing in this package knows SQL, torch, policies or what an event says; it
imports the error tree, the standard library, `cryptography`, `rfc8785` and `zstandard`.
"""
