"""Robots and dummy replicas on a real Ray Serve; run by a Python that has ray[serve].

    python test/support/dummy_replicas.py REPORT

Writes a JSON object to the file REPORT. For each way to ask it holds, for each robot, the replicas
that answered its ticks, in order. A replica answers as a chat server does and names itself in
`model`.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray_serve import deployment_options
from server_settings import ServerSettings

ROBOTS = [f"robot{number}/front" for number in range(12)]
TICKS = 6
REPLICAS = 3
BUSY_S = 0.05
"""How long a dummy replica takes to answer, seconds."""


class Dummy:
    """Answers every request as a chat server does, and names itself as the model."""

    async def __call__(self, request: Any) -> dict[str, Any]:
        await request.json()
        await asyncio.sleep(BUSY_S)
        message = {"role": "assistant", "content": "Silence"}
        return {
            "object": "chat.completion",
            "model": serve.get_replica_context().replica_id.unique_id,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }


def tick(address: str, robot: str, header: bool) -> str:
    """The replica that answers one tick of `robot`."""
    body = {"model": "dummy", "messages": [{"role": "user", "content": robot}], "max_tokens": 1}
    headers = {"Content-Type": "application/json"} | ({"x-session-id": robot} if header else {})
    request = urllib.request.Request(
        f"{address}/v1/chat/completions", json.dumps(body).encode(), headers
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        answer = json.load(reply)
    assert answer["choices"][0]["message"]["content"] == "Silence"
    return str(answer["model"])


def all_ticks(address: str, header: bool, at_once: bool) -> dict[str, list[str]]:
    """The replicas that answered each robot; the robots take turns, or all ask at once."""
    with ThreadPoolExecutor(len(ROBOTS) if at_once else 1) as pool:
        rounds = [
            list(pool.map(lambda robot: tick(address, robot, header), ROBOTS)) for _ in range(TICKS)
        ]
    return {robot: [one[number] for one in rounds] for number, robot in enumerate(ROBOTS)}


def with_fallback(options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` with the fallback of the router as Ray has it by default."""
    router = options["request_router_config"].model_copy(update={"request_router_kwargs": {}})
    return {**options, "request_router_config": router}


def main(report: Path) -> None:
    """Start Ray Serve on this machine, send the ticks of every robot, and write who answered."""
    ours = deployment_options(ServerSettings(replicas=REPLICAS))
    one_at_a_time = deployment_options(ServerSettings(replicas=REPLICAS, requests=1))
    deployments = {
        "ours": ours,
        "usual": {name: ours[name] for name in ours if name != "request_router_config"},
        "busy": one_at_a_time,
        "fallback": with_fallback(one_at_a_time),
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})

    def answered(name: str, header: bool = True, at_once: bool = False) -> dict[str, list[str]]:
        return all_ticks(f"http://127.0.0.1:{port}/{name}", header, at_once)

    try:
        for name, options in deployments.items():
            small = serve.deployment(Dummy).options(ray_actor_options={"num_cpus": 0.1}, **options)
            serve.run(small.bind(), name=name, route_prefix=f"/{name}")
        ways = {
            "session": answered("ours"),
            "no header": answered("ours", header=False),
            "usual router": answered("usual"),
            "busy": answered("busy", at_once=True),
            "busy, with fallback": answered("fallback", at_once=True),
        }
        report.write_text(json.dumps(ways), encoding="utf-8")
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
