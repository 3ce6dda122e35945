"""What everything else stands on: errors, names and their checks, files, and memory. It imports no other folder."""
