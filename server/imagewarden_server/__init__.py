"""The moderation server: one explained verdict over digests, PDQ and embeddings. It never imports TensorFlow."""

import os

# Checks run beside each other on as many threads as there are cores: were each product of matrices to spread over all
# of them too, they would mostly wait for each other. It is read when numpy is loaded, so it stands before any import.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
