"""What is not the step itself: one file for each feature that some scenarios use."""
