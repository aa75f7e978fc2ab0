"""Keeps banks as hash exchanges have them: pulls what changed through the fetchers of Meta's `threatexchange` package.

    cli         the command `imagewarden sync`
    config      which exchanges, into which banks, how often
    exchanges/  one adapter an exchange: what its fetcher gives, as records of a list
    pull        one synchronisation of one exchange: fetch, import, and only then remember how far
    sweep       after all of an exchange was fetched: what it no longer has goes
    progress    how far: a file that is replaced whole, and what was seen
    service     all exchanges at once, each when it is due, until a signal
    status      what became of the last one, for `imagewarden sync status`

It is a client of the service like any other, and imports nothing of the server.
"""
