"""The commands of `python -m loadtest`: options come in, tables, files and exit codes go out."""
