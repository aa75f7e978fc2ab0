"""`python -m imagewarden_server` is `imagewarden serve`."""

from imagewarden_server.cli import app

app(prog_name="imagewarden serve")
