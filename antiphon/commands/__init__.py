"""The commands of the command line: a function with its options in the file of its name."""
