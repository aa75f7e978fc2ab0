"""The embedded model host: TensorFlow Serving's API over TensorFlow in this process.

The road of a request: `servicers` (gRPC) or `rest` (HTTP) read it, `predict` checks it against the signature,
`batching` joins it with others of the same kind, `servable` runs the graph. `manager` decides which versions of which
models are loaded. Messages, codes and file formats are tensorflow_model_server's, so that a deployment moves from one
to the other by changing an address.
"""
