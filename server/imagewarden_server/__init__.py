"""The ImageWarden server: digests, perceptual hashes and embeddings against an index of banks, one verdict over gRPC."""

import os

# Checks run beside each other on as many threads as there are cores: were each product of matrices to spread over all of
# them too, they would mostly wait for each other. It is read when numpy is loaded, so it stands before any import of it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
