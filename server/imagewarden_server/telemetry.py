"""Prometheus metrics, under the names that the ecosystem's gRPC dashboards know, and ImageWarden's own.

One `Metrics` a server, over a registry of its own, so that two servers in one process do not mix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from imagewarden_server.matching.check import CheckResult
from imagewarden_server.matching.load import Room, Turns
from imagewarden_server.matching.opinions import Opinion, QuarantineReason
from imagewarden_server.matching.types import Bank

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_STAGE = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_SCORES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.88, 0.9, 0.92, 0.94, 0.96, 0.98, 0.99, 1.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """All that the server counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.started = Counter(
            "grpc_server_started_total",
            "Calls that began.",
            ["grpc_type", "grpc_service", "grpc_method"],
            registry=self.registry,
        )
        self.handled = Counter(
            "grpc_server_handled_total",
            "Calls that ended, by status code.",
            ["grpc_type", "grpc_service", "grpc_method", "grpc_code"],
            registry=self.registry,
        )
        self.handling = Histogram(
            "grpc_server_handling_seconds",
            "How long calls took.",
            ["grpc_type", "grpc_service", "grpc_method"],
            buckets=_LATENCY,
            registry=self.registry,
        )
        self.in_flight = Gauge("imagewarden_calls_in_flight", "Calls that run now.", registry=self.registry)
        self.refusals = Counter(
            "imagewarden_overload_refusals_total",
            "Calls and pictures that were refused for there were too many calls or bytes, or too long a wait.",
            ["why"],
            registry=self.registry,
        )
        self.stages = Histogram(
            "imagewarden_check_stage_seconds",
            "How long a stage of a check took.",
            ["stage"],
            buckets=_STAGE,
            registry=self.registry,
        )
        self.verdicts = Counter(
            "imagewarden_verdicts_total",
            "Verdicts, by the kind of the bank whose match stands first (none: no match) and the action.",
            ["verdict", "bank_kind", "action"],
            registry=self.registry,
        )
        self.scores = Histogram(
            "imagewarden_match_score",
            "Scores of matches, by signal.",
            ["signal"],
            buckets=_SCORES,
            registry=self.registry,
        )
        self.undecided = Counter(
            "imagewarden_undecided_total",
            "Reasons why a check could not decide.",
            ["reason"],
            registry=self.registry,
        )
        self.batches = Histogram(
            "imagewarden_embedding_batch_size",
            "Pictures of one request to the model.",
            buckets=_SIZES,
            registry=self.registry,
        )
        self.embedding = Histogram(
            "imagewarden_embedding_seconds",
            "How long the model took to answer.",
            buckets=_STAGE,
            registry=self.registry,
        )
        self.embedding_failures = Counter(
            "imagewarden_embedding_failures_total",
            "Requests that the model did not answer well, by status code or what was wrong.",
            ["code"],
            registry=self.registry,
        )

        self.decoders = Counter(
            "imagewarden_decoder_processes_ended_total",
            "Decoder processes that a picture ended (crashed), or that were ended for it (killed, nonsense).",
            ["how"],
            registry=self.registry,
        )
        self.looks = Counter(
            "imagewarden_looks_total",
            "Pictures looked at (taken), or known of an earlier check (remembered) or of one beside (shared).",
            ["how"],
            registry=self.registry,
        )
        self.model_passes = Counter(
            "imagewarden_embedding_pictures_total",
            "Pictures of checks that the model was asked for (made), or whose pass was kept or shared.",
            ["how"],
            registry=self.registry,
        )
        self.reports = Counter(
            "imagewarden_match_reports_total",
            "What people reported of matches, by bank and opinion (confirmed, false_positive, disputed).",
            ["bank", "opinion"],
            registry=self.registry,
        )
        self.quarantines = Counter(
            "imagewarden_quarantines_total",
            "Entries that the server put under quarantine, by bank and reason (false_positives, flood).",
            ["bank", "reason"],
            registry=self.registry,
        )
        self.confirmed_floods = Counter(
            "imagewarden_confirmed_floods_total",
            "Floods of entries that were left as they are, since a person had confirmed them, by bank.",
            ["bank"],
            registry=self.registry,
        )
        self.quarantined_matches = Counter(
            "imagewarden_quarantined_matches_total",
            "Matches of quarantined entries, which block nothing and clear nothing, by bank.",
            ["bank"],
            registry=self.registry,
        )
        # What is counted at every call is looked up once: the library makes texts of the labels, under a lock.
        self._started, self._handled = cache(self.started.labels), cache(self.handled.labels)
        self._handling, self._stage = cache(self.handling.labels), cache(self.stages.labels)
        self._verdict, self._score = cache(self.verdicts.labels), cache(self.scores.labels)

    def call_began(self, kind: str, service: str, method: str) -> None:
        """One call that runs now."""
        self._started(kind, service, method).inc()
        self.in_flight.inc()

    def call_ended(self, kind: str, service: str, method: str, code: str, seconds: float) -> None:
        """The same call's end."""
        self.in_flight.dec()
        self._handling(kind, service, method).observe(seconds)
        self._handled(kind, service, method, code).inc()

    def refused(self, why: str) -> None:
        """One call or picture that was refused for there was too much (a LoadObserver)."""
        self.refusals.labels(why).inc()

    def look(self, how: str) -> None:
        """One look at a picture that was taken, or not (a RecentObserver)."""
        self.looks.labels(how).inc()

    def reported(self, bank_id: str, opinion: Opinion) -> None:
        """One report of a match (a ReportObserver)."""
        self.reports.labels(bank_id, opinion.value).inc()

    def quarantined(self, bank_id: str, reason: QuarantineReason) -> None:
        """One entry under quarantine (a QuarantineObserver)."""
        self.quarantines.labels(bank_id, reason.value).inc()

    def left_flooded(self, bank_id: str) -> None:
        """One flood of an entry that a person had confirmed (a QuarantineObserver)."""
        self.confirmed_floods.labels(bank_id).inc()

    def decoder_ended(self, how: str) -> None:
        """One decoder process that had to be replaced (a DecoderObserver)."""
        self.decoders.labels(how).inc()

    def passes(self, *, kept: int, shared: int, made: int) -> None:
        """Passes of the model that were not made, and that were (a PassObserver)."""
        for how, count in (("kept", kept), ("shared", shared), ("made", made)):
            self.model_passes.labels(how).inc(count)

    def batch(self, size: int, seconds: float) -> None:
        """One answered request to the model (an EmbeddingObserver)."""
        self.batches.observe(size)
        self.embedding.observe(seconds)

    def failure(self, code: str) -> None:
        """One failed request to the model (an EmbeddingObserver)."""
        self.embedding_failures.labels(code).inc()

    def checked(self, result: CheckResult) -> None:
        """One verdict."""
        for stage, seconds in result.timings.items():
            self._stage(stage).observe(seconds)
        kind = result.matches[0].bank.kind.value if result.matches else "none"
        self._verdict(result.verdict.value, kind, result.action.name.lower()).inc()
        for match in result.matches:
            self._score(match.signal.value).observe(match.score)
            if match.entry.quarantine is not None:
                self.quarantined_matches.labels(match.bank.id).inc()
        for reason in result.undecided:
            self.undecided.labels(reason.code.value).inc()

    def watch_load(self, room: Room, turns: Turns) -> None:
        """Read at each scrape how much is taken on."""
        for name, what, read in (
            ("imagewarden_request_bytes", "Bytes of the requests that are answered now.", lambda: room.held),
            ("imagewarden_looks_running", "Pictures that are looked at now, or wait for it.", lambda: turns.running),
            ("imagewarden_look_wait_seconds", "How long one that comes now would take.", lambda: turns.wait),
        ):
            Gauge(name, what, registry=self.registry).set_function(read)

    def watch_window(self, nbytes: Callable[[], int], pictures: Callable[[], int]) -> None:
        """Read at each scrape how much is kept of checked pictures for previews."""
        for name, text, read in (
            ("imagewarden_preview_window_bytes", "Memory of what is kept of checked pictures for previews.", nbytes),
            ("imagewarden_preview_window_pictures", "Pictures that something is kept of for previews.", pictures),
        ):
            Gauge(name, text, registry=self.registry).set_function(read)

    def watch_state(
        self,
        *,
        banks: Callable[[], Iterable[Bank]],
        revisions: Callable[[], tuple[int, int]],
        index_age: Callable[[], float],
        model_ready: Callable[[], bool],
        model_left_alone: Callable[[], bool],
        cached: Callable[[], int],
        quarantined: Callable[[], Mapping[str, int]],
    ) -> None:
        """Read the catalogue's and the index's state at each scrape."""
        self.registry.register(
            _StateCollector(banks, revisions, index_age, model_ready, model_left_alone, cached, quarantined)
        )


class _StateCollector(Collector):
    """Gauges that are read when somebody asks."""

    def __init__(
        self,
        banks: Callable[[], Iterable[Bank]],
        revisions: Callable[[], tuple[int, int]],
        index_age: Callable[[], float],
        model_ready: Callable[[], bool],
        model_left_alone: Callable[[], bool],
        cached: Callable[[], int],
        quarantined: Callable[[], Mapping[str, int]],
    ) -> None:
        self._quarantined = quarantined
        self._model_left_alone = model_left_alone
        self._cached = cached
        self._banks = banks
        self._revisions = revisions
        self._index_age = index_age
        self._model_ready = model_ready

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead of time: the state may not be open yet when this is registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The state now."""
        entries = GaugeMetricFamily("imagewarden_entries", "Entries, by bank.", labels=["bank", "bank_kind"])
        for bank in self._banks():
            entries.add_metric([bank.id, bank.kind.value], bank.entry_count)
        yield entries
        quarantined = GaugeMetricFamily(
            "imagewarden_entries_quarantined", "Entries that are quarantined, by bank.", labels=["bank"]
        )
        for bank_id, count in self._quarantined().items():
            quarantined.add_metric([bank_id], count)
        yield quarantined
        catalog, index = self._revisions()
        yield GaugeMetricFamily("imagewarden_catalog_revision", "The last committed change.", value=catalog)
        yield GaugeMetricFamily("imagewarden_index_revision", "The last change that checks see.", value=index)
        yield GaugeMetricFamily(
            "imagewarden_index_age_seconds",
            "Seconds since the index was last known to have all changes.",
            value=self._index_age(),
        )
        yield GaugeMetricFamily(
            "imagewarden_model_ready", "1 while the model can be asked.", value=float(self._model_ready())
        )
        yield GaugeMetricFamily(
            "imagewarden_model_breaker_open",
            "1 while the model host is left alone for its failures.",
            value=float(self._model_left_alone()),
        )
        yield GaugeMetricFamily(
            "imagewarden_embedding_cache_bytes",
            "Memory of what the model said of checked pictures.",
            value=self._cached(),
        )
