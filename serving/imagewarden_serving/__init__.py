"""The model of ImageWarden: export it as a SavedModel, host it with TensorFlow Serving's API."""
