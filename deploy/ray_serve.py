"""vLLM for many robots: a Ray Serve application in which every camera keeps its replica.

    cd deploy
    serve run ray_serve:application model=/models/Qwen2.5-VL-7B-Instruct replicas=4
    serve deploy ray_serve.yaml

A replica holds what a stream has read in its prefix cache. Another replica would read the whole
stream again, so the header x-session-id, which a node sends for each camera, decides on the
replica. `server_settings.ServerSettings` lists the arguments; docs/deploy.md explains them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.serve import Application
from ray.serve.config import RequestRouterConfig
from server_settings import ServerSettings, load_settings

ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"


def deployment_options(settings: ServerSettings) -> dict[str, Any]:
    """The options of the deployment that runs the model: number of replicas, and the routing.

    A replica that is busy makes its streams wait. No stream moves to another replica because of
    load: reading the stream again there would cost more than the wait.
    """
    return {
        "num_replicas": settings.replicas,
        "max_ongoing_requests": settings.requests,
        "request_router_config": RequestRouterConfig(
            request_router_class=ROUTER,
            request_router_kwargs={"num_fallback_replicas": 0},
        ),
    }


def application(arguments: Mapping[str, Any]) -> Application:
    """The application; Ray Serve calls this with the arguments of its command line or YAML file.

    Raises:
        ModuleNotFoundError: ray[llm], which brings vLLM, is not installed.
        WrongSetting: an argument is wrong.
    """
    settings = load_settings(arguments)
    # Imports vLLM, which takes half a minute and is not needed for the options above.
    from ray.serve.llm import LLMConfig, ModelLoadingConfig, build_openai_app

    config = LLMConfig(
        model_loading_config=ModelLoadingConfig(
            model_id=settings.served_name, model_source=settings.model
        ),
        engine_kwargs=settings.engine_arguments(),
        deployment_config=deployment_options(settings),
        **({} if settings.gpus else {"placement_group_config": {"bundles": [{"CPU": 1}]}}),
    )
    return build_openai_app({"llm_configs": [config]})
