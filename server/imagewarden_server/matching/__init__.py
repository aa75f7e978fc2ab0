"""The domain: what a check, a ban and a logo are, and what they do. Imports no gRPC and no SQL."""
