"""The verbs of the command line, one module each, and shared functions. Loaded when a verb is called."""
