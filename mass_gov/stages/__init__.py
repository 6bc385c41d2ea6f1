"""The five steps, one file each: synthesis, gates, update, regression, decision. They never call one another."""
