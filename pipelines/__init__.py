"""The commands that people type: each parses its arguments, makes one library call and sets the exit code."""
