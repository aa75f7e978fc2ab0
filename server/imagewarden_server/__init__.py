"""The moderation server: one explained verdict over digests, PDQ and embeddings. It never imports TensorFlow."""
