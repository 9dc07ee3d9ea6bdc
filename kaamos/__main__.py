"""The command line: ``kaamos serve``."""

import asyncio
import signal
import sys
from pathlib import Path

import click

from kaamos.config import Config, load_config
from kaamos.errors import ConfigError, EngineError
from kaamos.server import Server, __version__, set_up_logging


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="kaamos", message="%(prog)s %(version)s")
def main() -> None:
    """Kaamos, a WebRTC SFU."""


@main.command()
@click.option("--config", "path", type=click.Path(dir_okay=False, path_type=Path), help="TOML file.")
@click.option("--host", help="Address of REST, WebSocket and page [127.0.0.1].")
@click.option("--port", type=int, help="Its TCP port; 0 takes a free one [8080].")
@click.option("--rtc-port", type=int, help="UDP port of media; 0 takes a free one [7882].")
@click.option("--rtc-ip", multiple=True, help="Address that clients send media to; repeat for several.")
@click.option("--workers", type=int, help="Native media workers [1].")
@click.option("--public-url", help="Base of the links handed out, as https://meet.example.org.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Form of log lines [text].")
def serve(
    path: Path | None,
    host: str | None,
    port: int | None,
    rtc_port: int | None,
    rtc_ip: tuple[str, ...],
    workers: int | None,
    public_url: str | None,
    log_format: str | None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C."""
    said = {
        "http.host": host,
        "http.port": port,
        "http.public_url": public_url,
        "rtc.port": rtc_port,
        "rtc.ip": rtc_ip or None,
        "media.workers": workers,
        "log.format": log_format,
    }
    try:
        config = load_config(path, flags={key: value for key, value in said.items() if value is not None})
        set_up_logging(config.log)
        asyncio.run(run(config))
    except (ConfigError, EngineError) as error:
        click.echo(f"kaamos: {error}", err=True)
        sys.exit(1)


async def run(config: Config) -> None:
    """Serve until a signal asks to stop, then stop in order."""
    stopped = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
    server = Server(config)
    await server.start()
    try:
        click.echo(f"Kaamos {__version__}: open {server.url}/")
        await stopped.wait()
    finally:
        await server.stop()


if __name__ == "__main__":
    main()
