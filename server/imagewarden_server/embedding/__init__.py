"""The model, asked over TensorFlow Serving's API. It never imports TensorFlow."""

from imagewarden_server.embedding.client import EmbeddingObserver, TfServingEmbedder

__all__ = ["EmbeddingObserver", "TfServingEmbedder"]
