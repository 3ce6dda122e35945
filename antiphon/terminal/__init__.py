"""What commands print: tables, explanations of scenarios, results of runs."""
