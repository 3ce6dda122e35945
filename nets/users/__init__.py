"""What users hand over, beside modules and optimisers."""
