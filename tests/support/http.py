"""The server's HTTP port: health, readiness and metrics."""

from __future__ import annotations

import http.client

from prometheus_client.parser import text_string_to_metric_families

from tests.support.processes import Server

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def get(address: str, path: str) -> tuple[int, str]:
    """The status and the body of a GET."""
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    status, body = response.status, response.read().decode()
    connection.close()
    return status, body


def metrics(server: Server) -> Samples:
    """Every sample, by its name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(get(server.http, "/metrics")[1])
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """One sample; 0 where nothing was counted yet."""
    return samples.get((name, tuple(sorted(labels.items()))), 0.0)
