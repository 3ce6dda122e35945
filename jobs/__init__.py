"""Many runs: seeds, studies and populations."""
