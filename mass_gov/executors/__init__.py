"""Where it runs: `inline`, in this process, is the default."""
