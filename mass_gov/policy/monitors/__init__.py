"""What is watched over many changes: pure functions of what their leaves record. No model, no samples, no clock.

`flips` is a test martingale on paired flips; `coverage` and `density` compare the kinds of practice with the reference
pool; `windows` says what stands in a window and derives every `window.*` measure from it, for the learner and for
`verify` alike.
"""
