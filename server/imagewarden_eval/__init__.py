"""`imagewarden eval`: how well pictures and logos are recognised, measured over the product's own path.

Needs the extras `server`, `serving` and `eval`.
"""
