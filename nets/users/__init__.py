"""What users' objects keep between calls, as trees that a checkpoint holds."""
