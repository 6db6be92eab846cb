"""Python stubs of the contract, written by `python protos/generate.py`; not edited by hand."""
