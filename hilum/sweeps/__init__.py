"""Many runs from one file: planned, each trained in a process of its own, and compared at the end."""
