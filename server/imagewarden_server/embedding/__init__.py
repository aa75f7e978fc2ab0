"""The model, asked over TensorFlow Serving's API. It never imports TensorFlow."""

from imagewarden_server.embedding.breaker import BreakerState
from imagewarden_server.embedding.client import TfServingEmbedder
from imagewarden_server.embedding.observer import EmbeddingObserver

__all__ = ["BreakerState", "EmbeddingObserver", "TfServingEmbedder"]
