"""Serves a scripted model: `python -m stream_vlm_lab.evaluation.scripted_vlm scripted:miss=0.1`."""

from __future__ import annotations

import click

from stream_vlm_lab.evaluation.scripted_vlm.answerer import ScriptedVlm
from stream_vlm_lab.evaluation.scripted_vlm.quirks import parse_quirks
from stream_vlm_lab.evaluation.scripted_vlm.server import make_server


@click.command()
@click.argument("model", default="scripted")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port to listen on.")
def serve(model: str, host: str, port: int) -> None:
    """Serve MODEL with the OpenAI chat protocol until it is interrupted.

    MODEL is `scripted` or `scripted:NAME=VALUE,...`.
    """
    server = make_server(ScriptedVlm(parse_quirks(model), model), host, port)
    click.echo(f"http://{host}:{server.server_port}/v1 serves {model}")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass  # the usual way to end it
    finally:
        server.server_close()


if __name__ == "__main__":
    serve()
