"""What commands print: tables, progress, explanations of scenarios, measurements."""
