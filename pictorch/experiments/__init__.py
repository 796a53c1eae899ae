"""Many runs, and what they prove: grids of configurations, and the numbers that others have published."""
