"""What is to be done: checked configuration, runs, files, jobs. Imports no torch, no pandas."""
