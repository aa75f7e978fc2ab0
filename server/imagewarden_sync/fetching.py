"""What a fetcher raises, as errors that say what to do; never in its own words.

Those have the address that was asked, with the access token in it, or the whole answer, which is the list.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import requests

from imagewarden_sync.errors import FetchError, SyncError
from imagewarden_sync.exchanges.base import Adapter


def pages(adapter: Adapter, checkpoint: Any) -> Iterator[Any]:
    """The pages of an exchange.

    Raises:
        FetchError: it did not answer, refused, or answered what cannot be read.
    """
    iterator = adapter.pages(checkpoint)
    while True:
        try:
            page = next(iterator, iterator)
        except SyncError:
            raise
        except Exception as error:  # the package raises bare Exception, too
            raise told(error) from error
        if page is iterator:
            return
        yield page


def told(error: Exception) -> FetchError:
    """What a fetcher's exception means, and what to do."""
    if isinstance(error, requests.RequestException):
        return _told_request(error)
    if isinstance(error, OSError):
        return FetchError(f"it cannot be read: {error.strerror or _kind(error)}", passing=True)
    return FetchError(
        f"the exchange answered what the threatexchange package cannot read ({_kind(error)}): if that stays so, renew "
        "the package, and ask the exchange",
        passing=True,
    )


def _told_request(error: requests.RequestException) -> FetchError:
    host = _host(error)
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _refused(error.response.status_code, host)
    if isinstance(error, requests.exceptions.RetryError):
        return FetchError(f"{host} cannot answer now, and said so several times; it is asked again", passing=True)
    if isinstance(error, requests.exceptions.SSLError):
        return FetchError(f"the certificate of {host} is not good: check the url, the clock and the proxy")
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return FetchError(f"{host} answered something else than JSON: check the url and the proxy", passing=True)
    return FetchError(f"{host} cannot be reached, or broke off ({_kind(error)}); it is asked again", passing=True)


def _refused(status: int, host: str) -> FetchError:
    said = f"{host} answered HTTP {status}"
    if status in {401, 403}:
        return FetchError(f"{said}: it does not take the credentials; see docs/sync.md for where they stand")
    if status == 404:
        return FetchError(f"{said}: check the url, the environment and the id of the group")
    if status == 429 or status >= 500:
        return FetchError(f"{said}: it cannot answer now; it is asked again", passing=True)
    return FetchError(
        f"{said}: it refused what was asked; look at the credentials and the settings, and then sync with --full"
    )


def _host(error: requests.RequestException) -> str:
    """Whom the request was for: of its address the host alone."""
    url = getattr(error.request, "url", None) or getattr(error.response, "url", None) or ""
    return urlsplit(url).hostname or "the exchange"


def _kind(error: Exception) -> str:
    return type(error).__name__
