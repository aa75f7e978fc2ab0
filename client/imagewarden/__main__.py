"""`python -m imagewarden` is the command `imagewarden`."""

from imagewarden._main import main

main()
