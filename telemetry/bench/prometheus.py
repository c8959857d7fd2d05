"""Prometheus as a peer: what a scrape costs it, and range queries over HTTP on blocks made from the same readings.

The scraped pages are finished before the clock starts and are served uncompressed, which is the cheapest for it.
"""

import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from telemetry.bench.figure import BenchFailed
from telemetry.bench.peer import Peer, free_port, running
from telemetry.bench.signals import GPUS_PER_HOST, METRICS, Floats, Signals, in_units
from telemetry.bench.victoria import labels

PROGRAM, TOOL = "prometheus", "promtool"
SCRAPED_PAGES, HOSTS_PER_PAGE, SCRAPED_SECONDS, SETTLE_SECONDS = 10, 10, 20, 6
_CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: bench
    honor_labels: true
    static_configs: [{{targets: [{targets}]}}]
    relabel_configs:
      - {{source_labels: [__address__], regex: '([^:]+):.*', target_label: __metrics_path__, replacement: '/$1'}}
      - {{target_label: __address__, replacement: '127.0.0.1:{port}'}}
"""


def scrape_cost(directory: Path) -> tuple[float, int]:
    """Return (CPU seconds, values) of Prometheus while it scrapes 100 hosts of 8 GPUs each second.

    Ten hosts stand on a page: a page for each, as one exporter a host gives them, would cost it more.
    """
    with _pages() as port:
        names = ", ".join(f"'page{n}:1'" for n in range(SCRAPED_PAGES))
        with prometheus(directory, _CONFIGURATION.format(targets=names, port=port)) as peer:
            time.sleep(SETTLE_SECONDS)
            before, n_before = peer.cpu_seconds(), _appended(peer)
            time.sleep(SCRAPED_SECONDS)
            cpu_seconds, n_values = peer.cpu_seconds() - before, _appended(peer) - n_before
    least = 0.9 * SCRAPED_PAGES * HOSTS_PER_PAGE * GPUS_PER_HOST * len(METRICS) * SCRAPED_SECONDS
    if n_values < least:
        raise BenchFailed(f"{PROGRAM} took {n_values} values, less than the {least:g} that it was to scrape")
    return cpu_seconds, n_values


@contextmanager
def prometheus(directory: Path, configuration: str = "{}") -> Iterator[Peer]:
    """Yield a server on the blocks that lie in its data directory. Raises BenchFailed."""
    port, data, file = free_port(), directory / "prometheus", directory / "prometheus.yml"
    data.mkdir(exist_ok=True)
    file.write_text(configuration)
    options = (
        f"--config.file={file}", f"--storage.tsdb.path={data}", f"--web.listen-address=127.0.0.1:{port}",
        "--storage.tsdb.retention.time=10y",
    )  # fmt: skip
    with running(PROGRAM, options, port, data, "/-/ready") as peer:
        yield peer


def make_blocks(directory: Path, lines: Iterable[str]) -> None:
    """Put the lines of `openmetrics` into blocks of a server that is not running yet. Raises BenchFailed."""
    file = directory / "samples.txt"
    with file.open("w") as written:
        written.writelines(lines)
        written.write("# EOF\n")
    command = [TOOL, "tsdb", "create-blocks-from", "openmetrics", str(file), str(directory / "prometheus")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchFailed(f"{TOOL}: {done.stderr[-300:]}")
    file.unlink()


def openmetrics(host: str, times_ms: Sequence[int], values: Floats, metrics: Sequence[str] = METRICS) -> Iterator[str]:
    """Yield a line a sample; `values` are `(n_metrics, n_gpus, n_ticks)` in base units."""
    for metric, by_gpu in zip(metrics, values.tolist(), strict=True):
        for index, row in enumerate(by_gpu):
            names = ",".join(f'{name}="{value}"' for name, value in labels(host, index).items())
            for at, value in zip(times_ms, row, strict=True):
                yield f"{metric}{{{names}}} {value!r} {at / 1000:.3f}\n"


def _appended(peer: Peer) -> int:
    for line in peer.get("/metrics").decode().splitlines():
        if line.startswith("prometheus_tsdb_head_samples_appended_total"):
            return int(float(line.rpartition(" ")[2]))
    raise BenchFailed(f"{PROGRAM} does not tell how many samples it took")


@contextmanager
def _pages() -> Iterator[int]:
    """Serve each page as it is at the moment; yields the port."""
    n_pages = SETTLE_SECONDS + SCRAPED_SECONDS + 10
    pages = {f"/page{n}": _page(n, n_pages) for n in range(SCRAPED_PAGES)}
    began = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = pages[self.path][int(time.monotonic() - began) % n_pages]
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A line for each scrape would bury the figures."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


def _page(number: int, n_ticks: int) -> list[bytes]:
    """Return the page by tick."""
    hosts = [_rendered(f"host-{number}-{n}", number * HOSTS_PER_PAGE + n, n_ticks) for n in range(HOSTS_PER_PAGE)]
    return [b"".join(by_host) for by_host in zip(*hosts, strict=True)]


def _rendered(host: str, seed: int, n_pages: int) -> list[bytes]:
    sets = [",".join(f'{name}="{value}"' for name, value in labels(host, i).items()) for i in range(GPUS_PER_HOST)]
    series = [f"{metric}{{{each}}} " for metric in METRICS for each in sets]
    by_tick = in_units(Signals(GPUS_PER_HOST, seed).advance(n_pages)).reshape(len(series), n_pages).T.tolist()
    return ["".join(f"{n}{v!r}\n" for n, v in zip(series, column, strict=True)).encode() for column in by_tick]
