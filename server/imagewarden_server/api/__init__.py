"""Servicers: proto to domain and back, nothing else."""
