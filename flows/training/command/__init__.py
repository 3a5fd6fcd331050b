"""What the scripts of the project have in common: reading a command line, explaining errors."""
