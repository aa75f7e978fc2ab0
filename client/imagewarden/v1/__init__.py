"""Generated stubs of the API: run `make protos` after a change in protos/."""
