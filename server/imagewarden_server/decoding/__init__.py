"""Decoding in processes of their own: what a hostile picture does to a decoder, it does there (ADR 19)."""

from imagewarden_server.decoding.processes import DecoderObserver, DecoderProcesses

__all__ = ["DecoderObserver", "DecoderProcesses"]
