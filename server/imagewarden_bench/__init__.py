"""`imagewarden bench`: how fast the service is on this machine, beside its limits and its peers, in one run."""
